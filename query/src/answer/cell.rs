//! One value of a column, in the few shapes that the text encodings tell apart.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    ArrowDictionaryKeyType, ArrowNativeType, DataType, Date32Type, Date64Type, Float16Type,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

/// See the module.
pub(super) enum Cell<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float32(f32),
    Float64(f64),
    /// A number in digits, too long for the machine's own.
    Number(String),
    Text(&'a str),
    Rendered(String),
    Moment {
        seconds: i64,
        nanos: u32,
    },
    Day(i64),
    List(ArrayRef),
    /// The row of a struct array.
    Struct(&'a dyn Array, usize),
}

/// The name of a type as answers give it.
pub(super) fn type_name(data_type: &DataType) -> &'static str {
    use DataType as T;
    match data_type {
        T::Null => "null",
        T::Boolean => "bool",
        T::Int8 => "int8",
        T::Int16 => "int16",
        T::Int32 => "int32",
        T::Int64 => "int64",
        T::UInt8 => "uint8",
        T::UInt16 => "uint16",
        T::UInt32 => "uint32",
        T::UInt64 => "uint64",
        T::Float16 | T::Float32 => "float32",
        T::Float64 => "float64",
        T::Timestamp(..) => "timestamp",
        T::Date32 | T::Date64 => "date",
        T::Time32(_) | T::Time64(_) => "time",
        T::Duration(_) => "duration",
        T::Interval(_) => "interval",
        T::Utf8 | T::LargeUtf8 | T::Utf8View => "text",
        T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_) => "binary",
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => "decimal",
        T::List(_) | T::LargeList(_) | T::FixedSizeList(..) => "list",
        T::Struct(_) => "struct",
        T::Dictionary(_, values) => type_name(values),
        T::RunEndEncoded(_, values) => type_name(values.data_type()),
        _ => "other",
    }
}

/// The value of `array` at `row`.
pub(super) fn cell(array: &dyn Array, row: usize) -> Result<Cell<'_>, ArrowError> {
    use DataType as T;
    if array.is_null(row) {
        return Ok(Cell::Null);
    }
    Ok(match array.data_type() {
        T::Null => Cell::Null,
        T::Boolean => Cell::Bool(array.as_boolean().value(row)),
        T::Int8 => Cell::Int(array.as_primitive::<Int8Type>().value(row).into()),
        T::Int16 => Cell::Int(array.as_primitive::<Int16Type>().value(row).into()),
        T::Int32 => Cell::Int(array.as_primitive::<Int32Type>().value(row).into()),
        T::Int64 => Cell::Int(array.as_primitive::<Int64Type>().value(row)),
        T::UInt8 => Cell::Uint(array.as_primitive::<UInt8Type>().value(row).into()),
        T::UInt16 => Cell::Uint(array.as_primitive::<UInt16Type>().value(row).into()),
        T::UInt32 => Cell::Uint(array.as_primitive::<UInt32Type>().value(row).into()),
        T::UInt64 => Cell::Uint(array.as_primitive::<UInt64Type>().value(row)),
        T::Float16 => Cell::Float32(array.as_primitive::<Float16Type>().value(row).into()),
        T::Float32 => Cell::Float32(array.as_primitive::<Float32Type>().value(row)),
        T::Float64 => Cell::Float64(array.as_primitive::<Float64Type>().value(row)),
        T::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        T::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row)),
        T::Utf8View => Cell::Text(array.as_string_view().value(row)),
        T::Timestamp(unit, _) => moment(array, *unit, row),
        T::Date32 => Cell::Day(array.as_primitive::<Date32Type>().value(row).into()),
        T::Date64 => {
            let millis = array.as_primitive::<Date64Type>().value(row);
            Cell::Day(millis.div_euclid(86_400_000))
        }
        T::Decimal32(..) | T::Decimal64(..) | T::Decimal128(..) | T::Decimal256(..) => {
            Cell::Number(array_value_to_string(array, row)?)
        }
        T::List(_) => Cell::List(array.as_list::<i32>().value(row)),
        T::LargeList(_) => Cell::List(array.as_list::<i64>().value(row)),
        T::FixedSizeList(..) => Cell::List(array.as_fixed_size_list().value(row)),
        T::Struct(_) => Cell::Struct(array, row),
        T::Dictionary(keys, _) => {
            let values = array.as_any_dictionary().values();
            return cell(values.as_ref(), key(array, keys, row));
        }
        _ => Cell::Rendered(array_value_to_string(array, row)?),
    })
}

/// Where in its dictionary the value of `row` is.
fn key(array: &dyn Array, keys: &DataType, row: usize) -> usize {
    fn of<K: ArrowDictionaryKeyType>(array: &dyn Array, row: usize) -> usize {
        array.as_dictionary::<K>().keys().value(row).as_usize()
    }
    match keys {
        DataType::Int8 => of::<Int8Type>(array, row),
        DataType::Int16 => of::<Int16Type>(array, row),
        DataType::Int64 => of::<Int64Type>(array, row),
        DataType::UInt8 => of::<UInt8Type>(array, row),
        DataType::UInt16 => of::<UInt16Type>(array, row),
        DataType::UInt32 => of::<UInt32Type>(array, row),
        DataType::UInt64 => of::<UInt64Type>(array, row),
        _ => of::<Int32Type>(array, row),
    }
}

fn moment(array: &dyn Array, unit: TimeUnit, row: usize) -> Cell<'_> {
    let (value, per_second) = match unit {
        TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().value(row), 1),
        TimeUnit::Millisecond => (
            array.as_primitive::<TimestampMillisecondType>().value(row),
            1_000,
        ),
        TimeUnit::Microsecond => (
            array.as_primitive::<TimestampMicrosecondType>().value(row),
            1_000_000,
        ),
        TimeUnit::Nanosecond => (
            array.as_primitive::<TimestampNanosecondType>().value(row),
            1_000_000_000,
        ),
    };
    let fraction = value.rem_euclid(per_second) * (1_000_000_000 / per_second);
    Cell::Moment {
        seconds: value.div_euclid(per_second),
        nanos: u32::try_from(fraction).expect("less than a second"),
    }
}
