//! What a statement may see: one immutable snapshot, made by the caller for each request.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use object_store::ObjectStore;

/// One Parquet file of `samples`, as the catalog knows it.
///
/// The ranges are trusted: files that cannot hold what a statement asks for are not opened, and `count(*)` without a condition
/// is answered from `rows` alone while the objects are there. What is opened is read only if it has the checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFile {
    /// Object path within [`Tables::store`].
    pub path: String,
    /// Size of the object, exactly.
    pub bytes: u64,
    /// Rows in the file, exactly.
    pub rows: u64,
    /// Smallest `time` in the file, unix nanoseconds.
    pub min_ns: i64,
    /// Largest `time` in the file, unix nanoseconds, inclusive.
    pub max_ns: i64,
    /// crc32c of the whole object; `None` where it is not known, and the file is taken as it is.
    pub crc: Option<u32>,
    /// Names in it; `None` where they are not known, and any may be.
    pub names: Option<Names>,
}

/// The first and the last name of a file by their bytes, both inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Of the column `metric`.
    pub metrics: (Arc<str>, Arc<str>),
    /// Of the column `device`.
    pub devices: (Arc<str>, Arc<str>),
}

/// A small table held in memory, such as `latest` or `streams`.
#[derive(Debug, Clone)]
pub struct View {
    /// Name in SQL, lower case.
    pub name: String,
    /// Columns; batches are merged into it by name.
    pub schema: SchemaRef,
    /// Rows; may be empty.
    pub batches: Vec<RecordBatch>,
}

/// Everything one statement may see.
#[derive(Debug, Clone)]
pub struct Tables {
    /// Whose statement this is: those of one owner share [`Limits::owner_bytes`](crate::Limits::owner_bytes).
    pub owner: Arc<str>,
    /// Where the files are.
    pub store: Arc<dyn ObjectStore>,
    /// Columns of `samples`; has a column `time`, timestamp in nanoseconds.
    pub samples_schema: SchemaRef,
    /// The files of `samples`; many statements may share one list.
    pub files: Arc<Vec<DataFile>>,
    /// The rows of `samples` that are in no file yet.
    pub fresh: Vec<RecordBatch>,
    /// Tables beside `samples`.
    pub views: Vec<View>,
}

/// `batch` as `schema` has it: columns by name, other types cast, missing nullable columns null, unknown ones dropped.
pub(crate) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    if batch.schema_ref() == schema {
        return Ok(batch.clone());
    }
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let column = match batch.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Arc::clone(column),
            Some(column) => cast(column, field.data_type())?,
            None => new_null_array(field.data_type(), batch.num_rows()),
        };
        columns.push(column);
    }
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)
}
