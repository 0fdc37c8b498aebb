"""Pictures and sound: bundled ones, drawn ones, readers of COCO and VGGSound."""
