#!/usr/bin/env bats
# strut generate --chat with a model of any family: its tokenizer says which form, where an answer ends
# and what info tells; and a prompt begins with what the tokenizer's template puts there.
load ../helpers

setup_file() {
    export DIR=$BATS_FILE_TMPDIR
    export STRUT=${STRUT:-build/strut}
    echo '{"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": 620}' \
        >"$DIR/tiny.json"
    mkdir "$DIR/words" "$DIR/odd"
    cp test/fixtures/tokens/llama3.json "$DIR/words/tokenizer.json"
    cp test/fixtures/tokens/llama3.json "$DIR/odd/tokenizer.json"
    python3 - "$DIR" <<'END'
import json, sys
chat = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}{% endif %}..."
for name, text in (("words", chat), ("odd", "{{ messages }}")):
    with open(f"{sys.argv[1]}/{name}/tokenizer_config.json", "w") as f:
        json.dump({"bos_token": "<s>", "eos_token": "</s>", "chat_template": text}, f)
END
    "$STRUT" init "$DIR/tiny.json" "$DIR/m" --seed 3 --tokenizer "$DIR/words" --quiet
    "$STRUT" init "$DIR/tiny.json" "$DIR/o" --seed 3 --tokenizer "$DIR/odd" --quiet
}

# Ids as the words of a prompt, with special tokens found, behind <s> where the template puts it.
ids_of() {
    "$STRUT" generate "$1" --prompt "$2" --tokens 0 --json | python3 -c '
import json, sys
print(json.load(sys.stdin)["prompt_ids"])'
}

@test "a question goes in the form of the model's template" {
    apart "$STRUT" generate "$DIR/m" --chat 'How?' --tokens 3 --json
    [ "$code" = 0 ]
    [ "$(get chat)" = ChatML ]
    form=$'<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHow?<|im_end|>\n<|im_start|>assistant\n'
    # the prompt has <s> before it, the chat has not
    [ "[$(ids_of "$DIR/m" "$form" | cut -d' ' -f2-)" = "$(get prompt_ids)" ]
    apart "$STRUT" generate "$DIR/m" --chat 'How?' --system 'Be long.' --tokens 3 --json
    [ "[$(ids_of "$DIR/m" "${form/brief/long}" | cut -d' ' -f2-)" = "$(get prompt_ids)" ]
}

@test "an answer ends with its turn" {
    id=$(python3 -c '
import json, sys
print([x["id"] for x in json.load(open("test/fixtures/tokens/llama3.json"))["added_tokens"] if x["content"] == "<|im_end|>"][0])')
    apart "$STRUT" generate "$DIR/m" --chat 'How?' --tokens 4000 --temperature 5 --top-k 0 --seed 1 --json
    [ "$(get finish)" = eos ]
    [[ " $(get ids | tr -d '[],') " != *" $id "* ]]
    apart "$STRUT" generate "$DIR/m" --chat 'How?' --tokens 4000 --temperature 5 --top-k 0 --seed 1 --json --ignore-eos
    [ "$(get finish)" = length ]
}

@test "info names the form, and what is not known is said" {
    apart "$STRUT" info "$DIR/m"
    [[ $out == *"chat "*"ChatML"* ]] && [[ $out == *"chat's system"*"Be brief."* ]]
    apart "$STRUT" info "$DIR/words" --json
    [ "$(get chat)" = ChatML ] && [ "$(get chat_system)" = "Be brief." ]
    apart "$STRUT" info "$DIR/o" --json
    [ "$(get chat)" = "unknown template" ]
    apart "$STRUT" generate "$DIR/o" --chat 'How?' --tokens 3
    [ "$code" = 1 ] && [[ $err == *"its chat template is of none of the forms"*"--prompt"* ]]
    apart "$STRUT" generate "$DIR/m" --chat 'How?' --prompt x
    [ "$code" = 1 ] && [[ $err == *"give one of"* ]]
    apart "$STRUT" generate "$DIR/m" --prompt x --system y
    [ "$code" = 1 ] && [[ $err == *"--system goes with --chat"* ]]
}

@test "a GGUF file's tokenizer is one, too" {
    apart "$STRUT" info test/fixtures/tokens/llama2.gguf
    apart "$STRUT" convert "$DIR/m" "$DIR/m.gguf" --to gguf --quiet
    [ "$code" = 0 ]
    apart "$STRUT" info "$DIR/m.gguf" --json
    [ "$(get chat)" = ChatML ]
    apart "$STRUT" convert "$DIR/m.gguf" "$DIR/back" --to hf --quiet
    [ "$code" = 0 ]
    [ "$(ids_of "$DIR/back" 'the <s> Software 123')" = "$(ids_of "$DIR/m" 'the <s> Software 123')" ]
    apart "$STRUT" prepare --tokenizer "$DIR/m.gguf" --out "$DIR/data" README.md CONTRIBUTING.md --quiet
    [ "$code" = 0 ]
}
