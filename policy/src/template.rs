//! `require_approval_if_template_error`: text that a template engine should have filled in and did not.

use regex::Regex;

use crate::case::{Case, Opinion};
use crate::texts::Kind;

/// Looks for unresolved placeholders.
#[derive(Debug)]
pub(crate) struct Templates(Regex);

// === impl Templates ===

impl Templates {
    /// None only if the pattern below were broken.
    pub(crate) fn compile() -> Option<Self> {
        Regex::new(PLACEHOLDERS).ok().map(Self)
    }

    pub(crate) fn judge(&self, case: &Case<'_>) -> Option<Opinion> {
        let remedy = "fill the template in, or wait for a reviewer";
        let texts = match case.texts() {
            Ok(texts) => texts,
            Err(why) => {
                let reason = format!("the request cannot be searched for unresolved templates: {why}");
                return Some(Opinion::hold(reason, remedy));
            }
        };
        // On the wire `%20` and `{{` are syntax; what they spell is among the parsed texts.
        let found = texts.iter().filter(|text| text.kind != Kind::Wire).find(|text| self.0.is_match(&text.text))?;
        Some(Opinion::hold(format!("the {} has an unresolved template", found.place), remedy))
    }
}

/// `{{name}}`, `${name}`, `%NAME%`, and an object that JavaScript made text of. A percent escape is no name.
const PLACEHOLDERS: &str =
    r"\{\{[^{}\n]+\}\}|\$\{[^{}\n]+\}|%[A-Z_][A-Z0-9_]*[A-Z_][A-Z0-9_]+%|%[A-Z]_[A-Z0-9_]*%|\[object Object\]";
