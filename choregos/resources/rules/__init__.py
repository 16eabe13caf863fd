"""What several fields together must fulfil, said in CEL next to the fields, published in the schema and evaluated.

`rule` is how a kind says it, `evaluation` how it is judged. What CEL cannot say is `Kind.rules`.
"""
