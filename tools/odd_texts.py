"""Odd texts for comparing tokenizers: what fixtures_tokens.py and check_tokenizers.py share."""
# SPDX-License-Identifier: MIT
import random

PARTS = [
    "Hello", " world", "HELLO", "don't", "I'LL", "we\u2019re", "it'S", "x'd", "''", "'", " ", "  ", "   ", "     ",
    "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", "  \n  ", " \t ", "\u00a0", "\u3000", "\u2003", "\u200b",
    "\u200d", "\ufeff", "\x0b", "\x85", "\u2028", "0", "7", "12", "123", "1234", "12345678901", "3.14", "1,000,000",
    "\u00bd", "\u00b2", "\u2167", "\u0663\u0664", "\u0967\u0968\u0969", "\uff11\uff12", "e\u0301", "\u00e9",
    "a\u0323\u0307", "a\u0307\u0323", "n\u0303", "\u1e9b\u0323", "\ufb01", "\u212b", "\u2126", "\u00df", "\u0130",
    "\u017f", "\u212a", "Stra\u00dfe", "na\u00efve", "\u0440\u0443\u0441\u0441\u043a\u0438\u0439", " \u041c\u0438\u0440",
    "\u03b1\u03b2\u03b3", "\u05e9\u05dc\u05d5\u05dd", "\u0645\u0631\u062d\u0628\u0627", "\u0928\u092e\u0938\u094d\u0924\u0947",
    "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "\u4f60\u597d", "\u4e16\u754c", "\u6f22\u5b57\u304b\u306a\u30ab\u30ca",
    "\ud55c\uae00", "\u1112\u1161\u11ab", "\U00020000", "\U0001f600", "\U0001f44d\U0001f3fd",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "\u2764\ufe0f", "\U0001d54f", "!", "!!!", "?!",
    "...", "\u2026", "\u2014", "-", "--", "_", "__init__", "a_b", "camelCase", "CamelCase", "HTTPServer", "(", ")",
    "([{", "}])", "<", ">", "</", "/>", "<div>", "&amp;", "#!/bin/sh", "//", "/*", "*/", "\\n", "\\", "$", "\u20ac",
    "\u00a3", "+", "=", "==", "!=", "<=", "^", "~", "|", "`", "```", "\"", "\u201c", "\u201d", "\u300c", "\u300d",
    "\u3002", "\uff0c", "\u2581", "\u2581the", "\u0120", "\u010a", "<0x0A>", "<unk>", "a", "b", "zz", "the", " the",
    "The", "ing", " of", "https://example.org/a?b=c&d=%20", "user@example.com", "2026-12-01", "\x01", "\x7f",
    "\ufffd", "\ue000", "\u0378", "\U0010fffd",
]


def odd_texts(specials, n=300, seed=1):
    """n texts of odd parts and of the tokens that are found in text."""
    rng = random.Random(seed)
    texts = ["", " ", "a", " a", "a ", "  a  ", "\n", " \n a", "".join(PARTS[:40]), "".join(PARTS[40:80]),
             "".join(PARTS[80:]), "a" * 300, " " * 301 + "x", "\n" * 64, "1" * 100, "!" * 129, "ab " * 60, "\u4f60" * 70]
    for token in specials[:40]:
        texts += [token, "a" + token + "b", " " + token + " x", token + token]
    parts = PARTS + specials[:40]
    while len(texts) < n:
        texts.append("".join(rng.choice(parts) for _ in range(rng.randint(1, 14))))
    return texts
