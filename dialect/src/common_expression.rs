//! What the optimizer computes once for several places is a column that nobody has named: `__common_expr_1`.

use crate::plain::values;

/// With what the names of such columns begin.
const COMMON: &str = "__common_expr_";

/// Whether DataFusion's optimizer has given a column this name.
pub fn is_common_expression(name: &str) -> bool {
    name.starts_with(COMMON)
}

/// An expression, or the name that DataFusion made of one, in words for people: `count(Int64(1))` is `count(1)`, and what is computed once for
/// several places is `(…)`.
pub fn plain_expression(text: &str) -> String {
    let mut parts = text.split(COMMON);
    let first = parts.next().unwrap_or_default().to_owned();
    let plain = parts.fold(first, |out, part| out + "(…)" + part.trim_start_matches(|c: char| c.is_ascii_digit()));
    values(&plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_optimizer_and_marks_of_types_are_not_shown() {
        let text = "split_part(a, Utf8(\";\"), Int64(1)) = __common_expr_12 AND count(Int64(1)) > __common_expr_1";
        assert_eq!(plain_expression(text), "split_part(a, ';', 1) = (…) AND count(1) > (…)");
    }
}
