//! Takes a secret out of a JSON object without leaving copies of it behind.
//!
//! Must never guess which field is meant.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::Fault;

/// The text in one field of an object.
pub(crate) fn field(object: &str, name: &str) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // The values are borrowed; only the names are copied.
    let fields = serde_json::from_str::<BTreeMap<String, &RawValue>>(object).unwrap_or_default();
    let value = fields.get(name).ok_or_else(|| Fault::NoField(name.to_owned()))?;
    let text = serde_json::from_str::<Zeroizing<String>>(value.get());
    let mut text = text.map_err(|_| Fault::NotText(name.to_owned()))?;
    Ok(Zeroizing::new(std::mem::take(&mut *text).into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_is_taken_and_none_is_guessed() {
        let taken = |object, name: &str| field(object, name).map(|value| String::from_utf8(value.to_vec()).unwrap());
        let object = r#"{"a": "x", "b": "\u00e4\n", "c": 7, "d": null, "e": {"a": "y"}, "f": ""}"#;
        assert_eq!(taken(object, "a"), Ok("x".into()));
        assert_eq!(taken(object, "b"), Ok("ä\n".into()));
        assert_eq!(taken(object, "f"), Ok(String::new()));
        for name in ["c", "d", "e"] {
            assert_eq!(taken(object, name), Err(Fault::NotText(name.into())));
        }
        for (object, name) in [(object, "A"), (r#"["a"]"#, "a"), ("plain", "plain"), ("", "")] {
            assert_eq!(taken(object, name), Err(Fault::NoField(name.into())));
        }
    }
}
