//! Reads the table of `loader -c` and of `strace -c`: rows by name, closed by a `total` line.

use std::collections::BTreeMap;

/// Calls by name.
pub(crate) type Counts = BTreeMap<String, u64>;

/// The rows of `loader -c`: calls, errors (may be blank), name. Fails on anything without its closing line.
pub(crate) fn of_loader(text: &str) -> Result<Counts, String> {
    rows(text, 0)
}

/// The rows of `strace -c`: time, seconds, µs a call, calls, errors (may be blank), name.
pub(crate) fn of_strace(text: &str) -> Result<Counts, String> {
    rows(text, 3)
}

/// Rows start with a number; titles and rules do not. The call count is word `column`, the name the last word.
fn rows(text: &str, column: usize) -> Result<Counts, String> {
    let mut counts = Counts::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(first), Some(&name)) = (words.first(), words.last()) else { continue };
        if !first.starts_with(|letter: char| letter.is_ascii_digit()) {
            continue;
        }
        let calls = words.get(column).and_then(|word| word.parse::<u64>().ok());
        let calls = calls.ok_or_else(|| format!("no call count in: {line}"))?;
        if name == "total" {
            let sum: u64 = counts.values().sum();
            return if sum == calls {
                Ok(counts)
            } else {
                Err(format!("rows sum to {sum}, total says {calls}"))
            };
        }
        if counts.insert(name.to_owned(), calls).is_some() {
            return Err(format!("two rows of {name}"));
        }
    }
    Err("no line that ends in `total`".to_owned())
}

/// Each name whose count differs, as `name: left right`.
pub(crate) fn differences(left: &Counts, right: &Counts) -> Vec<String> {
    let mut names: Vec<&String> = left.keys().chain(right.keys()).collect();
    names.sort();
    names.dedup();
    let count = |counts: &Counts, name: &String| counts.get(name).copied().unwrap_or(0);
    names
        .into_iter()
        .filter(|name| count(left, name) != count(right, name))
        .map(|name| format!("{name}: {} {}", count(left, name), count(right, name)))
        .collect()
}
