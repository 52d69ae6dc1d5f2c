# Front of CMake + Ninja. `make` leaves the program at build/strut.
PREFIX ?= /usr/local
# Tests at a time: one more than processors, as some wait; not many more, as many take all of them.
export CTEST_PARALLEL_LEVEL ?= $(shell n=$$(nproc) && echo $$((n < 4 ? n + 1 : 4)))
.PHONY: all setup test build-asan asan fuzz faults demo bench lint install clean
all: setup
	@cmake --preset release >build.log 2>&1 || { cat build.log; exit 1; }
	@rm -f build.log
	cmake --build --preset release
setup:
	@tools/setup.sh
test: all
	ctest --preset release
build-asan: setup
	cmake --preset asan && cmake --build --preset asan
asan: build-asan
	ctest --preset asan
fuzz: setup
	cmake --preset fuzz && cmake --build --preset fuzz
# Kills, signals, files that may not grow or are cut, at many moments (an hour; the tests try a few).
faults: all
	STRUT=$(CURDIR)/build/strut STRUT_FAULTS=$${STRUT_FAULTS:-100} bats test/train/faults.bats
demo: all
	build/strut demo out/demo
bench: all
	bench/run.sh
lint: setup
	tools/lint.sh
install: all
	cmake --install build --prefix $(PREFIX)
clean:
	rm -rf build build-asan build-fuzz
