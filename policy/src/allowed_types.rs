//! `allowed_types`: the declared type is listed, and the bytes are what it says.

use crate::case::{Case, Opinion};
use crate::content::{Family, is_media_type};
use crate::fault::{Code, Faults};
use crate::yaml::Step;

/// The types of body that a policy allows.
#[derive(Debug)]
pub(crate) struct AllowedTypes(Vec<AllowedType>);

#[derive(Debug)]
enum AllowedType {
    Family(Family),
    /// A media type such as `application/pdf`.
    Media(String),
}

// === impl AllowedTypes ===

impl AllowedTypes {
    pub(crate) fn compile(entries: &[String], faults: &mut Faults<'_>) -> Self {
        if entries.is_empty() {
            let list = [Step::Key("allowed_types")];
            faults.note(&list, Code::EmptyList, "the list is empty", "list types or remove the key");
        }
        let mut types = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            match entry.as_str() {
                "binary" => types.push(AllowedType::Family(Family::Binary)),
                "csv" => types.push(AllowedType::Family(Family::Csv)),
                "form" => types.push(AllowedType::Family(Family::Form)),
                "json" => types.push(AllowedType::Family(Family::Json)),
                "multipart" => types.push(AllowedType::Family(Family::Multipart)),
                "text" => types.push(AllowedType::Family(Family::Text)),
                "xml" => types.push(AllowedType::Family(Family::Xml)),
                media if is_media_type(media) => types.push(AllowedType::Media(media.to_owned())),
                other => faults.note(
                    &[Step::Key("allowed_types"), Step::Item(at)],
                    Code::BadType,
                    format_args!("`{other}` is no type"),
                    "write csv, json, form, text, xml, multipart, binary or a media type such as `application/pdf`",
                ),
            }
        }
        Self(types)
    }

    pub(crate) fn judge(&self, case: &Case<'_>) -> Option<Opinion> {
        let facts = case.content.facts();
        if facts.body.is_empty() && matches!(facts.method.as_str(), "GET" | "HEAD" | "DELETE") {
            return None;
        }
        let deny = |reason| Some(Opinion::deny(reason, "send one of the allowed types and declare it in Content-Type"));
        let media = match case.content.media() {
            Ok(media) => media,
            Err(why) => return deny(why.to_string()),
        };
        let listed = self.0.iter().any(|allowed| match allowed {
            AllowedType::Family(family) => *family == media.family,
            AllowedType::Media(essence) => *essence == media.essence,
        });
        if !listed {
            return deny(format!("the type `{}` is not allowed", media.essence));
        }
        match case.content.is_as_declared() {
            Ok(true) => None,
            Ok(false) => deny(format!("the body is not what `{}` declares", media.essence)),
            Err(why) => deny(why.to_string()),
        }
    }
}
