# SPDX-License-Identifier: MIT
"""strut for Python: language models and structured matrices, over ctypes and numpy.

    import strut
    model = strut.Model("gpt2/")
    ids = model.encode("The cat")
    logits = model.logits(ids)                      # numpy (len(ids), vocab)
    print(model.decode(model.generate(ids, tokens=20)))
    strut.decompose("gpt2/", "small/", ["h.*.mlp.*=lowrank:rank=128"])
    m = strut.Matrix("monarch:blocks=4", inputs=768, outputs=3072)
    m.project(w); y = m.apply(x)                    # y = x W'^T

Errors are strut.Error, whose `code` is one of strut.h. The library is found beside this file's
installation, by the system, or at $STRUT_LIBRARY.
"""

import ctypes
import ctypes.util
import os

import numpy

__all__ = ["Error", "Model", "Matrix", "decompose", "matrix_types", "version"]


def _library():
    here = os.path.dirname(os.path.abspath(__file__))
    tried = []
    places = [os.environ.get("STRUT_LIBRARY")]
    for up in ("../..", "../../..", "../../../.."):
        places.append(os.path.join(here, up, "libstrut.so.0"))
    places += ["libstrut.so.0", ctypes.util.find_library("strut")]
    for place in places:
        if not place or (os.path.isabs(place) and not os.path.exists(place)):
            continue
        try:
            return ctypes.CDLL(place)
        except OSError as error:
            tried.append(str(error))
    raise ImportError("libstrut.so.0 was not found; set STRUT_LIBRARY to its path. " + " ".join(tried))


_lib = _library()
_size, _i32, _i64, _text = ctypes.c_size_t, ctypes.c_int32, ctypes.c_int64, ctypes.c_char_p
_say_fn = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_char), _size)


class _Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 512)]


class _Sized(ctypes.Structure):
    """A struct that begins with its own size."""

    def __init__(self, **values):
        super().__init__(size=ctypes.sizeof(type(self)), **values)


class _OpenOptions(_Sized):
    _fields_ = [("size", _size), ("device", _text), ("dtype", _text), ("tokenizer", _text)]


class _ModelInfo(_Sized):
    _fields_ = [("size", _size), ("parameters", _i64), ("vocab", _i64), ("context", _i64),
                ("width", _i64), ("layers", _i64), ("heads", _i64), ("bos", _i64), ("eos", _i64),
                ("has_tokenizer", ctypes.c_int), ("device", _text)]


class _GenerateOptions(_Sized):
    _fields_ = [("size", _size), ("tokens", _i64), ("temperature", ctypes.c_double),
                ("top_p", ctypes.c_double), ("top_k", _i64), ("seed", ctypes.c_uint64),
                ("ignore_eos", ctypes.c_int), ("say", _say_fn), ("ctx", ctypes.c_void_p)]


class _DecomposeOptions(_Sized):
    _fields_ = [("size", _size), ("weights", _text), ("tokens", _i64), ("sequential", ctypes.c_int),
                ("inits", ctypes.POINTER(_text)), ("ninits", _size), ("replace", ctypes.c_int)]


class Error(Exception):
    """What strut refused or failed at, and why."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


_lib.strut_version.restype = _text
_lib.strut_matrix_type.restype = _text
_lib.strut_matrix_spec.restype = _text
_lib.strut_matrix_parameters.restype = _i64
for _name in ("strut_free", "strut_model_close", "strut_matrix_close"):
    getattr(_lib, _name).argtypes = [ctypes.c_void_p]
    getattr(_lib, _name).restype = None


def _call(name, *args):
    error = _Error()
    if getattr(_lib, name)(*args, ctypes.byref(error)):
        raise Error(error.code, error.message.decode("utf-8", "replace"))


def _bytes(text):
    return None if text is None else os.fsencode(text)


def _texts(items):
    items = [os.fsencode(t) for t in items]
    return (_text * max(1, len(items)))(*items), len(items)


def _floats(x, shape, name):
    x = numpy.ascontiguousarray(x, dtype=numpy.float32)
    if x.shape != shape:
        raise ValueError("%s: its shape is %s; expected %s" % (name, x.shape, shape))
    return x


def _at(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def version():
    return _lib.strut_version().decode()


def matrix_types():
    """Names of the structured matrices."""
    names, i = [], 0
    while _lib.strut_matrix_type(i):
        names.append(_lib.strut_matrix_type(i).decode())
        i += 1
    return names


def decompose(model, out, maps, weights=None, tokens=0, sequential=False, inits=(), replace=False):
    """Writes the model folder `out` with other matrices ("GLOB=SPEC" each); the share of the
    replaced matrices' energy that is kept. `weights`: a text to calibrate on."""
    maps, nmaps = _texts(maps)
    inits, ninits = _texts(inits)
    options = _DecomposeOptions(weights=_bytes(weights), tokens=tokens, sequential=bool(sequential),
                                inits=inits, ninits=ninits, replace=bool(replace))
    energy = ctypes.c_double()
    _call("strut_decompose", _bytes(model), _bytes(out), maps, _size(nmaps), ctypes.byref(options),
          ctypes.byref(energy))
    return energy.value


class _Handle:
    _close = None

    def __init__(self):
        self._as_parameter_ = ctypes.c_void_p()

    def close(self):
        handle, self._as_parameter_ = self._as_parameter_, ctypes.c_void_p()
        if handle:
            self._close(handle)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_as_parameter_", None):
            self.close()


class Model(_Handle):
    """A language model from anything that `strut info` reads."""

    _close = _lib.strut_model_close

    def __init__(self, path, device=None, dtype=None, tokenizer=None):
        super().__init__()
        options = _OpenOptions(device=_bytes(device), dtype=_bytes(dtype),
                               tokenizer=_bytes(tokenizer))
        _call("strut_model_open", ctypes.byref(self._as_parameter_), _bytes(path),
              ctypes.byref(options))
        info = _ModelInfo()
        _call("strut_model_describe", self, ctypes.byref(info))
        for name, _ in _ModelInfo._fields_[1:]:
            value = getattr(info, name)
            setattr(self, name, value.decode() if isinstance(value, bytes) else value)
        self.has_tokenizer = bool(self.has_tokenizer)

    def _ids(self, ids):
        return numpy.ascontiguousarray(self.encode(ids) if isinstance(ids, str) else ids,
                                       dtype=numpy.int32).reshape(-1)

    def encode(self, text):
        """Token ids of a text, int32."""
        data, ids, count = text.encode("utf-8", "surrogateescape"), ctypes.POINTER(_i32)(), _size()
        _call("strut_encode", self, data, _size(len(data)), ctypes.byref(ids), ctypes.byref(count))
        try:
            return numpy.array(ids[:count.value], dtype=numpy.int32)
        finally:
            _lib.strut_free(ids)

    def decode(self, ids):
        """The text of token ids; bytes that are no UTF-8 become U+FFFD."""
        ids, text, count = self._ids(ids), ctypes.c_void_p(), _size()
        _call("strut_decode", self, _at(ids), _size(len(ids)), ctypes.byref(text),
              ctypes.byref(count))
        try:
            return ctypes.string_at(text, count.value).decode("utf-8", "replace")
        finally:
            _lib.strut_free(text)

    def logits(self, ids):
        """(len(ids), vocab): of what follows each token."""
        ids = self._ids(ids)
        out = numpy.empty((len(ids), self.vocab), dtype=numpy.float32)
        _call("strut_logits", self, _at(ids), _size(len(ids)), _at(out))
        return out

    def generate(self, ids, tokens=128, temperature=0.0, top_p=1.0, top_k=0, seed=0,
                 ignore_eos=False, say=None):
        """New ids after `ids` (or a text). say(text) is told what appears; False ends it."""
        ids, new, made, failed = self._ids(ids), ctypes.POINTER(_i32)(), _size(), []

        def tell(_, text, count):
            try:
                return say(ctypes.string_at(text, count).decode()) is not False
            except BaseException as error:  # raised again below
                failed.append(error)
                return False

        options = _GenerateOptions(tokens=tokens, temperature=temperature, top_p=top_p, top_k=top_k,
                                   seed=seed, ignore_eos=bool(ignore_eos),
                                   say=_say_fn(tell) if say else _say_fn())
        _call("strut_generate", self, _at(ids), _size(len(ids)), ctypes.byref(options),
              ctypes.byref(new), ctypes.byref(made))
        try:
            if failed:
                raise failed[0]
            return numpy.array(new[:made.value], dtype=numpy.int32)
        finally:
            _lib.strut_free(new)


class Matrix(_Handle):
    """A structured matrix W (outputs, inputs) in float32 on the CPU."""

    _close = _lib.strut_matrix_close

    def __init__(self, spec, inputs, outputs, seed=0):
        super().__init__()
        self.inputs, self.outputs = inputs, outputs
        _call("strut_matrix_open", ctypes.byref(self._as_parameter_), _bytes(spec), _i64(inputs),
              _i64(outputs), ctypes.c_uint64(seed))
        self.spec = _lib.strut_matrix_spec(self).decode()
        self.parameters = _lib.strut_matrix_parameters(self)

    def factors(self):
        """{name: array}: views of the factors, which may be written while this object lives."""
        found, i = {}, 0
        name, ndim, dims = _text(), ctypes.c_int(), (_i64 * 4)()
        numbers = ctypes.POINTER(ctypes.c_float)()
        while _lib.strut_matrix_factor(self, i, ctypes.byref(name), ctypes.byref(ndim), dims,
                                       ctypes.byref(numbers)):
            shape = tuple(dims[:ndim.value])
            found[name.value.decode()] = numpy.ctypeslib.as_array(numbers, shape=shape)
            i += 1
        return found

    def project(self, w, covariance=None):
        """Becomes the nearest to w; |w - W| / |w|."""
        w = _floats(w, (self.outputs, self.inputs), "w")
        if covariance is not None:
            covariance = _floats(covariance, (self.inputs, self.inputs), "covariance")
        off = ctypes.c_double()
        _call("strut_matrix_project", self, _at(w),
              None if covariance is None else _at(covariance), ctypes.byref(off))
        return off.value

    def expand(self):
        """W itself."""
        w = numpy.empty((self.outputs, self.inputs), dtype=numpy.float32)
        _call("strut_matrix_expand", self, _at(w))
        return w

    def apply(self, x):
        """x W^T for x (..., inputs)."""
        x = numpy.ascontiguousarray(x, dtype=numpy.float32)
        if x.ndim < 1 or x.shape[-1] != self.inputs:
            raise ValueError("x: its shape is %s; expected (..., %d)" % (x.shape, self.inputs))
        rows = x.size // self.inputs
        y = numpy.empty(x.shape[:-1] + (self.outputs,), dtype=numpy.float32)
        _call("strut_matrix_apply", self, _at(x), _i64(rows), _at(y))
        return y
