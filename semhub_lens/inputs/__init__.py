"""What goes into a model, and what its tokens are called.

- `tokens`: words to token ids, token ids to printable text.
- `speller`: texts to token ids, and the bytes of every token id.
- `prompts`: `Prompt`: token ids with named spans.
- `given`: the kinds of prompts that functions take.
- `chat`: conversations in a model's own format.
- `spans`: where the spans of a text lie among its tokens.
- `framing`: BOS, special tokens in front of a text, padding.
- `media`: pictures and sound beside the token ids.
- `raw_media`: pixels and samples on the scale that encoders expect.
- `processors`: what a Hugging Face processor made of text, pictures and sound.
- `modalities`: the table of what a model can be shown beside text.
- `readers`: `MediaReader`: what turns a text with a picture or a sound into a prompt.
"""
