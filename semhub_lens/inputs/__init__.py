"""Inputs of a model: prompts, tokens, pictures and sound.

- `tokens`: words to token ids, token ids to printable text.
- `speller`: texts to token ids, and the bytes of every token id.
- `prompts`: `Prompt`: token ids with named spans.
- `given`: the forms of prompts that functions accept.
- `chat`: conversations in a model's own format.
- `spans`: the tokens of a text's spans.
- `framing`: BOS, special tokens before a text, padding.
- `media`: pictures and sound in addition to token ids.
- `raw_media`: pixels and samples on the scale that encoders expect.
- `processors`: a Hugging Face processor's output for text, pictures and sound.
- `modalities`: the table of inputs other than text.
- `readers`: `MediaReader`: turns a text with a picture or a sound into a prompt.
"""
