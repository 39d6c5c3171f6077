//! One field of a secret in a vault: `path#field`, with parameters after a question mark.
//!
//! Must never take a path that a server could read as another one.

/// The parts of such a place, as written.
pub(crate) struct Field<'a> {
    pub(crate) path: &'a str,
    pub(crate) name: Option<&'a str>,
    parameters: Vec<(&'a str, &'a str)>,
}

// === impl Field ===

impl<'a> Field<'a> {
    /// Takes `path#field?a=b` and `path?a=b#field`: both are written by people.
    pub(crate) fn parse(place: &'a str) -> Option<Field<'a>> {
        let (path, name) = match place.split_once('#') {
            Some((path, name)) => (path, Some(name)),
            None => (place, None),
        };
        let (path, first) = split_parameters(path);
        let (name, second) = match name.map(split_parameters) {
            Some((name, parameters)) => (Some(name), parameters),
            None => (None, None),
        };
        let given = match (first, second) {
            (Some(_), Some(_)) => return None,
            (given, None) | (None, given) => given,
        };
        let parameters = given.map(|text| text.split('&').map(|pair| pair.split_once('=')).collect::<Option<Vec<_>>>());
        let parameters = parameters.unwrap_or_else(|| Some(Vec::new()))?;
        let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let fits = plain(path) && name.is_none_or(plain) && parameters.iter().all(|(_, value)| plain(value));
        fits.then_some(Field { path, name, parameters })
    }

    /// Whether each of its parameters is one of these, and none is given twice.
    pub(crate) fn has_only(&self, known: &[&str]) -> bool {
        let names = || self.parameters.iter().map(|(name, _)| name);
        names().all(|name| known.contains(name) && names().filter(|other| *other == name).count() == 1)
    }

    /// The value of a parameter.
    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether the path is one or more names between single slashes, none of which a server would resolve or decode.
    pub(crate) fn is_plain_path(&self) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+=~:, ".contains(&byte);
        let name = |name: &str| !["", ".", ".."].contains(&name) && name.bytes().all(plain);
        self.path.split('/').all(name)
    }
}

fn split_parameters(text: &str) -> (&str, Option<&str>) {
    text.split_once('?').map_or((text, None), |(text, parameters)| (text, Some(parameters)))
}
