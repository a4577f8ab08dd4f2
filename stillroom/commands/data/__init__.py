"""Commands on a folder of images: audit, convert, the demo's images."""
