//! Chains of one operator as trees that are as flat as can be: plans and expressions are walked with the stack.

/// `a OR b OR c OR …`: the terms in their order, joined two by two until one is left, so that the depth is the logarithm of their number. `None` of
/// no terms.
pub fn balanced<T>(mut terms: Vec<T>, join: impl Fn(T, T) -> T) -> Option<T> {
    while terms.len() > 1 {
        let mut pairs = Vec::with_capacity(terms.len().div_ceil(2));
        let mut rest = terms.into_iter();
        while let Some(left) = rest.next() {
            pairs.push(match rest.next() {
                Some(right) => join(left, right),
                None => left,
            });
        }
        terms = pairs;
    }
    terms.pop()
}
