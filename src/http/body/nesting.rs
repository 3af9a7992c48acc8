//! Counts how deep JSON is nested, while it arrives in chunks.

use memchr::memchr2;

/// The state between two chunks of a body.
#[derive(Default)]
pub struct NestingCounter {
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl NestingCounter {
    /// Reads the next chunk of the body; returns the deepest level in it.
    pub fn advance(&mut self, chunk: &[u8]) -> usize {
        let mut deepest = self.depth;
        let mut rest = chunk;
        loop {
            if self.in_string && !self.escaped {
                // Only these two end or change the state of a string.
                let end = memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
                rest = &rest[end..];
            }
            let [byte, after @ ..] = rest else { return deepest };
            rest = after;
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'[' | b'{' => {
                    self.depth += 1;
                    deepest = deepest.max(self.depth);
                }
                b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_counted_across_chunks_and_not_in_strings() {
        let mut nesting = NestingCounter::default();
        assert_eq!(nesting.advance(br#"{"a":[{},"[[[["#), 3);
        assert_eq!(nesting.advance(br#"[\"[", ["#), 3);
        assert_eq!(nesting.advance(b"]]}"), 3);
        assert_eq!(nesting.advance(b""), 0);
        // An escape between two chunks.
        assert_eq!(nesting.advance(br#"["\"#), 1);
        assert_eq!(nesting.advance(br#""[[[", [] "#), 2);
    }
}
