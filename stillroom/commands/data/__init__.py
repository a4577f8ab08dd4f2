"""Commands on a folder of images: audit, convert, the demo's images.

* `audit`: audit, require_sound, show_audit
* `audited`: open_audited
* `convert`: convert, convert_images
* `demo`: demo, write_digits
"""
