//! Which forms of an answer a client accepts (RFC 9110 section 12.5).

use crate::front::http::parse::Request;
use crate::front::problem::{Kind, Problem};

/// The weight of what a client takes without saying how much it wants it, in thousandths.
const WEIGHT_MAX: u16 = 1000;

/// Chooses the form of an answer: the media type that the client wants most, of equal ones the first. `forms` is not
/// empty.
///
/// # Errors
///
/// 406, when the client accepts none of them (RFC 9110 section 12.5.1).
pub(in crate::front::api) fn accepted(
    request: &Request<'_>,
    forms: impl IntoIterator<Item = &'static str>,
) -> Result<&'static str, Problem> {
    let mut forms = forms.into_iter();
    // Most requests lack the field, and a field may be empty.
    if request.header_bytes("accept").is_none() || request.elements("accept").next().is_none() {
        return Ok(forms.next().expect("an answer has a form"));
    }
    let mut best = (0, None);
    for form in forms {
        let weight = weight_of_media(request, form);
        if weight > best.0 {
            best = (weight, Some(form));
        }
    }
    best.1.ok_or_else(|| Problem::plain(Kind::NotAcceptable))
}

/// How much a client wants a media type: what the most specific of the ranges says that it is in. Parameters of
/// ranges are not compared.
fn weight_of_media(request: &Request<'_>, form: &str) -> u16 {
    let media = form.split(';').next().unwrap_or(form);
    let kind = media.split('/').next().unwrap_or(media);
    let mut found = (0, 0);
    for element in request.elements("accept") {
        let mut parts = element.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default();
        let specificity = match range.strip_suffix("/*") {
            Some("*") => 1,
            Some(of_kind) if of_kind.eq_ignore_ascii_case(kind) => 2,
            None if range.eq_ignore_ascii_case(media) => 3,
            _ => continue,
        };
        if specificity > found.0 {
            found = (specificity, parts.find_map(weight).unwrap_or(WEIGHT_MAX));
        }
    }
    found.1
}

/// The weight that a parameter of a range gives; `None` for another parameter, and for one that is malformed.
fn weight(parameter: &str) -> Option<u16> {
    let text = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="))?;
    let weight: f32 = text.parse().ok()?;
    (0.0..=1.0).contains(&weight).then_some((weight * f32::from(WEIGHT_MAX)) as u16)
}

/// Whether the Accept-Encoding fields accept one of `names`. The first of these that is listed decides, so the most
/// specific comes first (RFC 9110 section 12.5.3).
pub(in crate::front::api) fn lists(request: &Request<'_>, field: &str, names: &[&str]) -> bool {
    let taken = |name: &&str| {
        request.elements(field).find_map(|element| {
            let mut parts = element.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|first| first.eq_ignore_ascii_case(name));
            is_it.then(|| !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000")))
        })
    };
    names.iter().find_map(taken).unwrap_or(false)
}
