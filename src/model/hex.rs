//! SHA-256 digests in hexadecimal digits.

/// The 64 lower-case digits of a digest.
#[must_use]
pub fn encode(digest: &[u8; 32]) -> String {
    digest.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Reads 64 digits, of whatever case.
#[must_use]
pub fn decode(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let digest: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        let text = encode(&digest);
        assert_eq!(decode(&text), Some(digest));
        assert_eq!(decode(&text.to_uppercase()), Some(digest));
        for wrong in ["", &text[1..], &format!("{text}0"), &text.replace('0', "+"), &"é".repeat(32)]
        {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }
}
