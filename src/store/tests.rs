//! What the store promises, checked against a plain model.
