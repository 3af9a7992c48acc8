//! Removes a leaked key from the URL where it was seen: the URL itself may contain the key.

use percent_encoding::percent_decode_str;
use url::Url;

use crate::app::App;
use crate::model::key_format::KeyFormat;
use crate::model::secret::Secret;

/// How often a URL is decoded to find a key in it. A reader would not recognize a key that is
/// encoded more often.
const MAX_DECODINGS: usize = 3;

/// Returns the URL without user name and password, and without path, query and fragment if it
/// contains the key or the prefix of any credential. `None` if the rest contains one of these, too.
pub fn redact_url(app: &App, key: &Secret, mut url: Url) -> Option<String> {
    let formats = [&app.config.keys.format, &app.config.accounts.token_format];
    let prefixes = formats.iter().map(|format| format.prefix()).chain(KeyFormat::INTERNAL_PREFIXES);
    let secrets: Vec<String> =
        prefixes.chain([key.expose()]).map(str::to_ascii_lowercase).collect();
    // A URL with a host accepts both.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    if contains_any(url.as_str(), &secrets) {
        url.set_path("/");
        url.set_query(None);
        url.set_fragment(None);
    }
    (!contains_any(url.as_str(), &secrets)).then(|| url.into())
}

/// Returns whether the text contains one of these, in any case and also in percent-encoding.
fn contains_any(text: &str, secrets: &[String]) -> bool {
    let mut text = text.to_ascii_lowercase();
    for _ in 0..=MAX_DECODINGS {
        if secrets.iter().any(|secret| !secret.is_empty() && text.contains(secret)) {
            return true;
        }
        text = percent_decode_str(&text).decode_utf8_lossy().to_ascii_lowercase();
    }
    false
}
