"""The command `semhub`.

- `main`: its commands.
- `lens_shown`: a lens as a coloured table or as JSON.
- `options`: what the commands share.
"""
