#!/usr/bin/env python3
"""Makes test/fixtures/chat.json: questions in the chat forms that are known, as transformers' (5.24.0)
apply_chat_template writes them, with templates written for this test in the ways that models have.

    .../python tools/fixtures_chat.py

[{"name": the form, "template", "bos", "eos", "system": the text if none is given, or null, "rows": [[system or
null, user, text]]}], and some templates of unknown forms ("name": null).
"""
# SPDX-License-Identifier: MIT
import json
import pathlib

from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parent.parent
TURNS = "{% for m in messages %}"
CHATML = TURNS + "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
ASK = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
FIRST = "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nBe kind, be brief.<|im_end|>\\n' }}{% endif %}"
TOOLS = "{% if tools %}{{ '<|im_start|>system\\n' }}{{ 'You have tools.' }}{{ '<|im_end|>\\n' }}{% endif %}"
SPLIT = ("{% if messages[0]['role'] == 'system' %}{% set s = messages[0]['content'] %}{% set rest = messages[1:] %}"
         "{% else %}{% set s = none %}{% set rest = messages %}{% endif %}")
HEADER = "'<|start_header_id|>' + {} + '<|end_header_id|>\\n\\n'"
LLAMA3 = (TURNS + "{% if loop.first %}{{ bos_token }}{% endif %}{{ " + HEADER.format("m['role']") +
          " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ " +
          HEADER.format("'assistant'") + " }}{% endif %}")
LLAMA31 = (SPLIT + "{{ bos_token }}{{ " + HEADER.format("'system'") + " }}{{ 'Cutting Knowledge Date: December 2023\\n' }}"
           "{{ 'Today Date: 26 Jul 2024\\n\\n' }}{% if s %}{{ s | trim }}{% endif %}{{ '<|eot_id|>' }}"
           "{% for m in rest %}{{ " + HEADER.format("m['role']") + " + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
           "{% if add_generation_prompt %}{{ " + HEADER.format("'assistant'") + " }}{% endif %}")
LLAMA2 = (SPLIT + "{% for m in rest %}{% set c = ('<<SYS>>\\n' + s + '\\n<</SYS>>\\n\\n' if s else '') + m['content'] %}"
          "{{ bos_token + '[INST] ' + c.strip() + ' [/INST]' }}{% endfor %}")


def mistral(before, after):
    return (SPLIT + "{{ bos_token }}{% for m in rest %}{% set c = (s + '\\n\\n' if s else '') + m['content'] %}"
            "{{ '" + before + "' + c + '" + after + "' }}{% endfor %}")


GEMMA = (SPLIT + "{{ bos_token }}{% for m in rest %}{{ '<start_of_turn>' + m['role'] + '\\n' + (s + '\\n\\n' if s else '') "
         "+ m['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}"
         "{{ '<start_of_turn>model\\n' }}{% endif %}")
PHI3 = (TURNS + "{{ '<|' + m['role'] + '|>' if false else '' }}{% if m['role'] == 'system' %}{{ '<|system|>\\n' }}{% else %}"
        "{{ '<|user|>\\n' }}{% endif %}{{ m['content'] + '<|end|>\\n' }}{% endfor %}{% if add_generation_prompt %}"
        "{{ '<|assistant|>\\n' }}{% endif %}")
ZEPHYR = ("{% for m in messages %}\n{% if m['role'] == 'system' %}\n{{ '<|system|>\\n' + m['content'] + eos_token }}\n"
          "{% elif m['role'] == 'user' %}\n{{ '<|user|>\\n' + m['content'] + eos_token }}\n{% endif %}\n"
          "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
FORMS = [
    ("ChatML", CHATML + ASK), ("ChatML", FIRST + CHATML + ASK), ("ChatML", TOOLS + FIRST + CHATML + ASK),
    ("ChatML", "{{ bos_token }}" + CHATML + ASK), ("Llama 3", LLAMA3), ("Llama 3.1", LLAMA31), ("Llama 2", LLAMA2),
    ("Mistral", mistral("[INST] ", " [/INST]")), ("Mistral", mistral(" [INST] ", " [/INST]")),
    ("Mistral", mistral("[INST] ", "[/INST]")), ("Mistral", mistral("[INST]", "[/INST]")), ("Gemma", GEMMA),
    ("Phi-3", PHI3), ("Zephyr", ZEPHYR), (None, "{{ messages }}"), (None, "### Instruction:\n{{ messages[0]['content'] }}"),
    (None, ASK + "{{ strftime_now('%d %B %Y') }}"), (None, "[SYSTEM_PROMPT]x[/SYSTEM_PROMPT][INST]{{ 1 }}[/INST]"),
]
CASES = [(None, "How do I boil an egg?"), ("Answer in French.", "Hello"), (None, "  two\nlines \u00e9 \n"),
         ("  Be\nbrief. ", " x "), (None, "it's {{ 1 }} <b>")]


def main():
    out = []
    for name, template in FORMS:
        t = PreTrainedTokenizerFast(tokenizer_file=str(ROOT / "test/fixtures/tokens/llama3.json"), bos_token="<s>",
                                    eos_token="</s>", chat_template=template)
        rows = []
        for system, user in CASES if name else []:
            said = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": user}]
            rows.append([system, user, t.apply_chat_template(said, tokenize=False, add_generation_prompt=True)])
        preset = "Be kind, be brief." if FIRST in template else None
        out.append({"name": name, "template": template, "bos": "<s>", "eos": "</s>", "system": preset, "rows": rows})
    path = ROOT / "test" / "fixtures" / "chat.json"
    path.write_text(json.dumps(out, indent=0) + "\n", "utf-8")
    print(path, len(out))


main()
