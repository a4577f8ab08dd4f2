"""Image files by their headers: what one is, what decoding it will cost, what is skipped.

* `decode_cost`: DecodeLimits, charge_of, check_cost, scans_of, shrink_of, without_text
* `sniff`: FileKind, ending_is_missing, image_error, kind_of, unsupported
"""
