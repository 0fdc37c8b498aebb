"""The command `semhub`.

- `main`: its commands.
- `options`: what the commands share.
"""
