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
    /// Returns the deepest level that the next chunk of the body reaches.
    pub fn max_depth_in(&mut self, chunk: &[u8]) -> usize {
        let mut deepest = self.depth;
        let mut rest = chunk;
        loop {
            if self.in_string && !self.escaped {
                // Strings are most of a body.
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
        assert_eq!(nesting.max_depth_in(br#"{"a":[{},"[[[["#), 3);
        assert_eq!(nesting.max_depth_in(br#"[\"[", ["#), 3);
        assert_eq!(nesting.max_depth_in(b"]]}"), 3);
        assert_eq!(nesting.max_depth_in(b""), 0);
        // An escape between two chunks.
        assert_eq!(nesting.max_depth_in(br#"["\"#), 1);
        assert_eq!(nesting.max_depth_in(br#""[[[", [] "#), 2);
    }
}
