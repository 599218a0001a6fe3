//! "Did you mean": the known key nearest to an unknown one.

/// The candidate that `word` was probably meant to be: at most one slip in three letters away, case and `_` against `-`
/// not counted.
pub(super) fn closest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = plain(word);
    let near = (word.chars().count() / 3).clamp(1, 3);
    let distances = candidates.map(|candidate| (distance(&word, &plain(candidate)), candidate));
    distances.filter(|(distance, _)| *distance <= near).min().map(|(_, candidate)| candidate)
}

/// Keys longer than any real one are cut, so that a hostile file costs no time.
fn plain(word: &str) -> String {
    word.chars().take(64).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

/// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: [Vec<usize>; 3] = [vec![], vec![], (0..=b.len()).collect()];
    for i in 1..=a.len() {
        rows.rotate_left(1);
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = rows[1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[0][j - 2] + 1);
            }
            row.push(best);
        }
        rows[2] = row;
    }
    rows[2][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_counted() {
        let cases = [
            ("", "", 0),
            ("abc", "", 3),
            ("listen", "lisetn", 1),
            ("stream", "streams", 1),
            ("abc", "xyz", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }

    #[test]
    fn only_a_near_key_is_suggested() {
        let keys = || ["listen", "state-dir", "telemetry"].into_iter();
        assert_eq!(closest("lisen", keys()), Some("listen"));
        assert_eq!(closest("state_dir", keys()), Some("state-dir"));
        assert_eq!(closest("STATE-DIR", keys()), Some("state-dir"));
        assert_eq!(closest("cluster", keys()), None);
        assert_eq!(closest(&"x".repeat(1 << 20), keys()), None);
    }
}
