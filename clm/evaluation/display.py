"""What `python -m clm evaluate` says: each number with its interval and what it divides by."""

from typing import Any

from clm.data.store.words import NO_WORDS

# metric -> what people call it, and what it divides by
UNITS = {
    "eval_loss": ("nats per token", "{eval_tokens:,} tokens of this tokenizer"),
    "perplexity": ("perplexity", "per token"),
    "nats_per_word": ("nats per word", "{eval_words:,} words: white-space words and one for each line end"),
    "word_perplexity": ("word perplexity", "per word"),
    "nats_per_byte": ("nats per byte", "{eval_bytes:,} bytes of UTF-8"),
    "bits_per_byte": ("bits per byte", "per byte"),
}


def result_page(result: dict[str, Any]) -> str:
    """The result on one screen."""
    form = f", {result['text_form']} form" if result["text_form"] else ""
    windows = f"block_size {result['block_size']:,}, stride {result['stride']:,}"
    windows += " (disjoint blocks)" if result["stride"] == result["block_size"] else ""
    one = result["eval_documents"] == 1
    lines = [
        "",
        f"model      {result['model']}",
        f"text       {result['text']}{form}: {result['eval_documents']:,} document{'s' * (not one)}, "
        f"document_separator {result['document_separator'] or 'none'}",
        f"windows    {windows}; a document starts from {result['document_starts_from']}, which is not scored",
        f"precision  {result['precision']}",
        "",
    ]
    intervals = result["intervals_95"]
    rows = [
        (name, f"{result[key]:.4f}", "{:.4f} to {:.4f}".format(*intervals.get(key, (0, 0))), result["divided_by"][key])
        for key, (name, _) in UNITS.items()
        if key in result
    ]
    left, value, interval = (max(len(row[column]) for row in rows) for column in range(3))
    for name, shown, low_high, what in rows:
        lines.append(f"{name:<{left}}  {shown:>{value}}  {low_high if intervals else '':<{interval}}  {what}")
    if "word_perplexity" not in result:
        lines.append(f"word perplexity {NO_WORDS}; bits per byte can be compared")
    lines += [
        "",
        "no interval: the text is one document" if one else "in the middle: 95 % interval, by bootstrap over documents",
    ]
    return "\n".join(lines)
