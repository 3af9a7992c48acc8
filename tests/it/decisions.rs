//! The decisions in `.docs/decisions`.

use std::fs;
use std::path::Path;

#[test]
fn every_decision_has_a_number_a_date_and_three_sections_and_is_in_the_list() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".docs/decisions");
    let list = fs::read_to_string(folder.join("README.md")).unwrap();
    let names = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "README.md");
    names.sort();
    for (index, name) in names.iter().enumerate() {
        let number = format!("{:04}", index + 1);
        assert!(name.starts_with(&format!("{number}-")), "{name} is not {number}");
        let text = fs::read_to_string(folder.join(name)).unwrap();
        let title = text.lines().next().unwrap().strip_prefix("# ").unwrap();
        for part in ["\nDate: 20", "\n## Context\n", "\n## Decision\n", "\n## Consequences\n"] {
            assert!(text.contains(part), "{name} lacks {part}");
        }
        let line = format!("- [{number}]({name}) {title} (");
        assert_eq!(list.matches(&line).count(), 1, "{line}");
    }
    assert_eq!(list.matches("\n- [").count(), names.len());
}
