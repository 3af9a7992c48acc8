//! Counts how deep JSON is nested, while it arrives in chunks.

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
        for byte in chunk {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' if self.in_string => self.escaped = true,
                b'"' => self.in_string = !self.in_string,
                b'[' | b'{' if !self.in_string => {
                    self.depth += 1;
                    deepest = deepest.max(self.depth);
                }
                b']' | b'}' if !self.in_string => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
        deepest
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
    }
}
