//! The nearest known name to one that was mistyped.

/// The name most like `wanted`: by typing distance if it is close, else one that has `wanted` as a word in it (`time` → `event_time`).
pub fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = wanted.to_lowercase();
    let allowed = match wanted.chars().count() {
        // Any letter is one edit away from any other.
        0 | 1 => 0,
        letters => (letters / 3).max(1),
    };
    let mut best: Option<(usize, &'a str)> = None;
    for name in names {
        let lower = name.to_lowercase();
        let mut far = distance(&wanted, &lower);
        let is_word = |part: &str, whole: &str| part.len() >= 3 && whole.split(['_', '.']).any(|w| w == part);
        if far > allowed && (is_word(&wanted, &lower) || is_word(&lower, &wanted)) {
            far = allowed;
        }
        if far <= allowed && best.is_none_or(|(least, _)| far < least) {
            best = Some((far, name));
        }
    }
    best.map(|(_, name)| name)
}

/// `did you mean 'x'?` for the nearest name, if there is one.
pub fn did_you_mean<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(wanted, names).map(|name| format!("did you mean '{name}'?"))
}

/// Fewest insertions, deletions, replacements and swaps of neighbours that turn `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replace = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replace.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let names = ["city", "event_time", "fare", "window_start"];
        assert_eq!(nearest("citty", names), Some("city"));
        assert_eq!(nearest("CTIY", names), Some("city"));
        assert_eq!(nearest("time", names), Some("event_time"));
        assert_eq!(nearest("windowstart", names), Some("window_start"));
        assert_eq!(nearest("colour", names), None);
        assert_eq!(nearest("x", ["y", "z"]), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("form", "from"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
