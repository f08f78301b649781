//! Numbers that readers of JSON would round, as text: JavaScript and many others read every number as a double. What a double holds stays a
//! number. NaN and the infinities, which JSON has no numbers for, are text, too.

use std::sync::LazyLock;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, DecimalType, FieldRef, Float32Type,
    Float64Type, Int64Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::json::writer::{Encoder, EncoderFactory, EncoderOptions, NullableEncoder, make_encoder};

/// Whole numbers up to here are doubles.
const WHOLE_MAX: u64 = 1 << 53;
/// Decimals of so many digits come back from a double as they were.
const DIGITS_MAX: usize = 15;

static PLAIN: LazyLock<EncoderOptions> = LazyLock::new(|| EncoderOptions::default().with_explicit_nulls(true));

/// Writes numbers exactly.
#[derive(Debug)]
pub(super) struct ExactNumbers;

impl EncoderFactory for ExactNumbers {
    fn make_default_encoder<'a>(
        &self,
        field: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        let odd: Odd<'a> = match array.data_type() {
            DataType::Int64 => {
                let array = array.as_primitive::<Int64Type>();
                Box::new(move |at| Some(array.value(at)).filter(|value| value.unsigned_abs() > WHOLE_MAX).map(|value| value.to_string()))
            }
            DataType::UInt64 => {
                let array = array.as_primitive::<UInt64Type>();
                Box::new(move |at| Some(array.value(at)).filter(|value| *value > WHOLE_MAX).map(|value| value.to_string()))
            }
            DataType::Decimal32(..) => long_decimals::<Decimal32Type>(array),
            DataType::Decimal64(..) => long_decimals::<Decimal64Type>(array),
            DataType::Decimal128(..) => long_decimals::<Decimal128Type>(array),
            DataType::Decimal256(..) => long_decimals::<Decimal256Type>(array),
            DataType::Float32 => not_finite::<Float32Type>(array),
            DataType::Float64 => not_finite::<Float64Type>(array),
            _ => return Ok(None),
        };
        let nulls = array.nulls().cloned();
        let plain = make_encoder(field, array, &PLAIN)?;
        Ok(Some(NullableEncoder::new(Box::new(Exact { plain, odd }), nulls)))
    }
}

/// The text of a value that is no number in JSON.
type Odd<'a> = Box<dyn Fn(usize) -> Option<String> + 'a>;

fn long_decimals<T: DecimalType + ArrowPrimitiveType>(array: &dyn Array) -> Odd<'_> {
    let array = array.as_primitive::<T>();
    Box::new(move |at| {
        let text = array.value_as_string(at);
        let digits = text.bytes().filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0').count();
        (digits > DIGITS_MAX).then_some(text)
    })
}

fn not_finite<T: ArrowPrimitiveType>(array: &dyn Array) -> Odd<'_>
where
    T::Native: Into<f64>,
{
    let array = array.as_primitive::<T>();
    Box::new(move |at| {
        let value: f64 = array.value(at).into();
        let text = if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        };
        (!value.is_finite()).then(|| text.to_owned())
    })
}

struct Exact<'a> {
    plain: NullableEncoder<'a>,
    odd: Odd<'a>,
}

impl Encoder for Exact<'_> {
    fn encode(&mut self, at: usize, out: &mut Vec<u8>) {
        match (self.odd)(at) {
            // Digits and words: there is nothing to escape.
            Some(text) => {
                out.push(b'"');
                out.extend_from_slice(text.as_bytes());
                out.push(b'"');
            }
            None => self.plain.encode(at, out),
        }
    }
}
