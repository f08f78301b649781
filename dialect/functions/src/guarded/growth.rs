//! How large the result of a function is, and how long it takes, worked out from its arguments.

use datafusion::functions::regex;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::column::Column;

/// Bytes of a number in a list.
const NUMBER_BYTES: u64 = 8;
/// Bytes that an element of a list takes beside a text.
const ELEMENT_BYTES: u64 = 16;
/// No number is longer as text.
const NUMBER_TEXT_BYTES: u64 = 24;
/// The longest thing that one letter of a time's format becomes.
const TIME_TEXT_BYTES: u64 = 36;
/// The longest character.
const CHARACTER_BYTES: u64 = 4;

/// How the size of a result follows from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// It is no larger than the arguments.
    None,
    /// The first argument as often as the second says.
    Repeat,
    /// As many characters as the second argument says, most of them those of the third.
    Pad,
    /// From the first to the second by steps of the third.
    Range { inclusive: bool },
    /// So many elements as large as the first argument.
    Elements,
    /// A list with so many elements as the second argument says, new ones as large as the third.
    Resize,
    /// All arguments one after the other.
    Sum,
    /// The same from the second on, with the first between each two.
    Joined,
    /// Each place of the second argument in the first becomes the third.
    Replace,
    /// The same with a pattern, of which the third may repeat what it found.
    ReplaceMatches,
    /// So many parts of the first argument as the second has groups.
    Groups,
    /// The first argument in parts.
    Parts,
    /// The elements of the first argument with the second between them, and the third for NULL.
    JoinedElements,
    /// Lists as long as the longest of them.
    Zipped,
    /// A list in which elements become the third argument.
    ReplacedElements,
    /// So many bytes for each.
    Times(u64),
    /// Characters of the first argument become some of the third.
    Translated,
    /// A time as the second argument says.
    Format,
}

/// What a function does beyond passing over its arguments and making its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Work {
    None,
    /// It compares each character of one text with each of another.
    CharacterPairs,
    /// It compares each element of one list with each of another.
    ElementPairs,
    /// It looks for a pattern.
    Search,
}

/// Steps that looking for a pattern takes for each byte, of an unkind pattern.
const SEARCH_STEPS: u64 = 256;

impl Work {
    pub(super) fn steps(self, columns: &[Column], row: usize) -> u64 {
        let [first, second, ..] = columns else { return 0 };
        match self {
            Self::None => 0,
            Self::CharacterPairs => first.bytes(row).saturating_mul(second.bytes(row)),
            Self::ElementPairs => first.elements(row).saturating_mul(second.elements(row)),
            Self::Search => first.bytes(row).saturating_add(second.bytes(row)).saturating_mul(SEARCH_STEPS),
        }
    }
}

impl Growth {
    /// What the result of a row takes, at most or nearly; NULL is nothing.
    pub(super) fn bytes(self, columns: &[Column], row: usize) -> u64 {
        self.counted(columns, row).unwrap_or(0)
    }

    fn counted(self, columns: &[Column], row: usize) -> Option<u64> {
        let count = |of: usize| columns.get(of)?.number(row).map(|count| u64::try_from(count).unwrap_or(0));
        let bytes = |of: usize| columns.get(of).map_or(0, |column| column.bytes(row));
        match self {
            Self::None => None,
            Self::Repeat => Some(bytes(0).saturating_mul(count(1)?)),
            Self::Pad => {
                let fill = columns.get(2).and_then(|fill| fill.text(row)).unwrap_or(" ");
                Some(bytes(0).saturating_add(count(1)?.saturating_mul(widest(fill))))
            }
            Self::Elements => Some(bytes(0).max(NUMBER_BYTES).saturating_mul(count(1)?)),
            Self::Resize => Some(bytes(0).saturating_add(bytes(2).max(NUMBER_BYTES).saturating_mul(count(1)?))),
            Self::Sum => Some(columns.iter().fold(0_u64, |sum, column| sum.saturating_add(column.bytes(row)))),
            Self::Joined => {
                let parts = columns.len().saturating_sub(2) as u64;
                let texts = columns.iter().skip(1).fold(0_u64, |sum, column| sum.saturating_add(column.bytes(row)));
                Some(texts.saturating_add(parts.saturating_mul(bytes(0))))
            }
            Self::Replace => {
                let (text, from, to) = (columns.first()?.text(row)?, columns.get(1)?.text(row)?, columns.get(2)?.text(row)?);
                // An empty text is found between all characters.
                let most = if from.is_empty() { text.len() + 1 } else { text.len() / from.len() };
                let made = |places: usize| (text.len() as u64).saturating_add((places as u64).saturating_mul(to.len() as u64));
                Some(if made(most) > super::VALUE_BYTES_MAX { made(text.matches(from).count()) } else { made(most) })
            }
            Self::ReplaceMatches => {
                let (text, pattern, to) = (columns.first()?.text(row)?, columns.get(1)?.text(row)?, columns.get(2)?.text(row)?);
                let flags = columns.get(3).and_then(|flags| flags.text(row)).unwrap_or_default();
                let repeated = to.matches(['$', '\\']).count() as u64;
                let made =
                    |places: u64| (text.len() as u64).saturating_mul(1 + repeated).saturating_add(places.saturating_mul(to.len() as u64));
                let most = if flags.contains('g') { text.len() as u64 + 1 } else { 1 };
                Some(if most > 1 && made(most) > super::VALUE_BYTES_MAX {
                    made(matches(text, pattern, flags).unwrap_or(most))
                } else {
                    made(most)
                })
            }
            Self::Groups => {
                let groups = columns.get(1)?.text(row)?.matches('(').count().max(1) as u64;
                Some(bytes(0).saturating_add(ELEMENT_BYTES).saturating_mul(groups))
            }
            Self::Parts => {
                let text = columns.first()?.text(row)?;
                let parts = match columns.get(1)?.text(row) {
                    Some("") => 1,
                    Some(delimiter) => text.matches(delimiter).count() + 1,
                    None => text.len(),
                };
                Some((text.len() as u64).saturating_add((parts as u64).saturating_mul(ELEMENT_BYTES)))
            }
            Self::JoinedElements => {
                let list = columns.first()?;
                let each = bytes(1).saturating_add(bytes(2)).saturating_add(NUMBER_TEXT_BYTES);
                Some(list.bytes(row).saturating_add(list.leaves(row).saturating_mul(each)))
            }
            Self::Zipped => {
                let longest = columns.iter().map(|list| list.elements(row)).max()?;
                let all = columns.iter().fold(0_u64, |sum, list| {
                    let added = longest.saturating_sub(list.elements(row)).saturating_mul(NUMBER_BYTES);
                    sum.saturating_add(list.bytes(row)).saturating_add(added)
                });
                Some(all)
            }
            Self::ReplacedElements => {
                let list = columns.first()?;
                Some(list.bytes(row).saturating_add(list.elements(row).saturating_mul(bytes(2))))
            }
            Self::Times(by) => Some(bytes(0).saturating_mul(by)),
            Self::Translated => Some(bytes(0).saturating_mul(columns.get(2)?.text(row).map_or(1, widest))),
            Self::Format => Some(bytes(1).saturating_mul(TIME_TEXT_BYTES / 2)),
            Self::Range { inclusive } => {
                let (start, stop) = match columns {
                    [stop] => (0, stop.number(row)?),
                    [start, stop, ..] => (start.number(row)?, stop.number(row)?),
                    [] => return None,
                };
                let step = columns.get(2).map_or(Some(1), |step| step.number(row))?;
                let (way, step) = (i128::from(stop) - i128::from(start), i128::from(step));
                if step == 0 || (way < 0) != (step < 0) {
                    return Some(NUMBER_BYTES);
                }
                let count = way / step + i128::from(inclusive);
                Some(u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(NUMBER_BYTES))
            }
        }
    }
}

/// Bytes of a character of a text, at most.
fn widest(text: &str) -> u64 {
    if text.is_ascii() { 1 } else { CHARACTER_BYTES }
}

/// How often a pattern is found in a text, as `regexp_replace` finds it.
fn matches(text: &str, pattern: &str, flags: &str) -> Option<u64> {
    use arrow::datatypes::{DataType, Field};
    use datafusion::common::ScalarValue;
    let texts = [text, pattern].map(|text| ColumnarValue::Scalar(ScalarValue::from(text)));
    let flags: String = flags.chars().filter(|flag| *flag != 'g').collect();
    let mut args = Vec::from(texts);
    args.push(ColumnarValue::Scalar(ScalarValue::Int64(Some(1))));
    if !flags.is_empty() {
        args.push(ColumnarValue::Scalar(ScalarValue::from(flags.as_str())));
    }
    let arg_fields = args.iter().map(|arg| Field::new("", arg.data_type(), true).into()).collect();
    let return_field = Field::new("", DataType::Int64, true).into();
    let args = ScalarFunctionArgs { args, arg_fields, number_rows: 1, return_field, config_options: Default::default() };
    let counted = regex::regexp_count().invoke_with_args(args).ok()?;
    let counted = counted.to_array(1).ok()?;
    use arrow::array::AsArray;
    let counted = counted.as_primitive_opt::<arrow::datatypes::Int64Type>()?;
    u64::try_from(counted.value(0)).ok()
}
