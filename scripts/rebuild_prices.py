#!/usr/bin/env python3
"""Rebuilds src/usage/prices.tsv, the table of model prices that agentguard carries.

    pip download --no-deps litellm
    python3 scripts/rebuild_prices.py litellm-*.whl

The prices are those of LiteLLM's `model_prices_and_context_window` file (MIT licence), of the providers named below.
Dollars per million tokens; an empty field is unknown.
"""
import datetime
import json
import re
import sys
import zipfile

PROVIDERS = re.compile(r"^(openai|text-completion-openai|anthropic|gemini|vertex_ai.*|xai|deepseek|mistral|moonshot|dashscope)$")
FIELDS = [
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "cache_creation_input_token_cost",
    "cache_creation_input_token_cost_above_1hr",
    "output_cost_per_reasoning_token",
]
LONG = FIELDS[:4]


def per_million(value):
    if not isinstance(value, (int, float)) or value < 0:
        return ""
    return f"{value * 1e6:.6f}".rstrip("0").rstrip(".")


def row(name, entry):
    fields = [name] + [per_million(entry.get(field)) for field in FIELDS]
    for thousands in (100, 128, 200, 256, 272, 512):
        suffix = f"_above_{thousands}k_tokens"
        if any(field + suffix in entry for field in LONG):
            fields.append(str(thousands * 1000))
            fields += [per_million(entry.get(field + suffix)) for field in LONG]
            break
    return "\t".join(fields).rstrip("\t")


def main(path):
    with zipfile.ZipFile(path) as wheel:
        names = [name for name in wheel.namelist() if re.search(r"model_prices_and_context_window.*\.json$", name)]
        prices = json.loads(wheel.read(sorted(names, key=len)[0] if len(names) == 1 else [n for n in names if "schema" not in n][0]))
    version = re.search(r"litellm-([0-9.]+)", path).group(1)
    rows = {}
    for name, entry in prices.items():
        if entry.get("mode") not in ("chat", "responses", "completion") or not PROVIDERS.match(entry.get("litellm_provider", "")):
            continue
        if not isinstance(entry.get("input_cost_per_token"), (int, float)) or "\t" in name:
            continue
        # A provider's prefix says where a model is reached, not which it is; the plain name comes first.
        short = name.lower().rsplit("/", 1)[-1]
        if short not in rows or "/" not in name:
            rows[short] = row(short, entry)
    today = datetime.date.today().isoformat()
    with open("src/usage/prices.tsv", "w", encoding="utf-8") as out:
        out.write(f"# agentguard-prices 1\t{today}\tlitellm {version} (MIT)\n")
        for name in sorted(rows):
            out.write(rows[name] + "\n")
    print(f"{len(rows)} models")


main(sys.argv[1])
