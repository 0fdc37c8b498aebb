"""Pictures and sound: similarity, the lens at their positions, segments, steering and patching."""
