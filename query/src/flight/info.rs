//! What the server says of itself: SqlInfo (JDBC alone reads some sixty entries of it), and the types of columns for ODBC-like clients.

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlOuterJoinsSupportLevel, SqlSupportedCaseSensitivity, SqlSupportedGroupBy,
    SqlSupportedSubqueries, SqlSupportedTransaction, SqlSupportedUnions, SqlTransactionIsolationLevel, SupportedSqlGrammar, XdbcDataType,
    XdbcDatetimeSubcode,
};

use crate::{QueryError, Session};

/// The version of arrow-rs, whose formats these are.
const ARROW_VERSION: &str = "59.0.0";
/// Words beyond those of SQL:2003 that need quotes as names.
const KEYWORDS: &[&str] = &["DESCRIPTOR", "EXPLAIN", "ILIKE", "LIMIT", "OFFSET", "QUALIFY", "SHOW", "TABLE"];
const NUMERIC: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln", "log", "log10", "log2", "pi", "pow",
    "power", "radians", "random", "round", "signum", "sin", "sqrt", "tan", "trunc",
];
const TEXT: &[&str] = &[
    "ascii",
    "bit_length",
    "btrim",
    "char_length",
    "chr",
    "concat",
    "concat_ws",
    "ends_with",
    "initcap",
    "instr",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "regexp_count",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "substring",
    "to_hex",
    "translate",
    "trim",
    "upper",
];
const TIME: &[&str] = &[
    "current_date",
    "current_time",
    "current_timestamp",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_seconds",
    "to_unixtime",
    "today",
];

/// All SqlInfo there is to say.
pub(super) fn sql_info(session: &Session) -> Result<SqlInfoData, QueryError> {
    let functions = session.functions();
    let known =
        |names: &[&str]| names.iter().filter(|name| functions.iter().any(|known| known == *name)).map(|n| (*n).to_owned()).collect();
    let numeric: Vec<String> = known(NUMERIC);
    let text: Vec<String> = known(TEXT);
    let time: Vec<String> = known(TIME);
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Watershed");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, ARROW_VERSION);
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerBulkIngestion, false);
    info.append(SqlInfo::FlightSqlServerIngestTransactionsSupported, false);
    info.append(SqlInfo::FlightSqlServerStatementTimeout, 0);
    info.append(SqlInfo::FlightSqlServerTransactionTimeout, 0);
    for name in [SqlInfo::SqlDdlCatalog, SqlInfo::SqlDdlSchema, SqlInfo::SqlDdlTable] {
        info.append(name, false);
    }
    names_and_syntax(&mut info);
    info.append(SqlInfo::SqlNumericFunctions, numeric);
    info.append(SqlInfo::SqlStringFunctions, text);
    info.append(SqlInfo::SqlDatetimeFunctions, time);
    info.append(SqlInfo::SqlSystemFunctions, functions);
    queries(&mut info);
    limits(&mut info);
    absent(&mut info);
    info.build().map_err(|error| QueryError::Setup(format!("what the server says of itself: {error}").into()))
}

fn names_and_syntax(info: &mut SqlInfoDataBuilder) {
    info.append(SqlInfo::SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlInfo::SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityCaseInsensitive as i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlSearchStringEscape, "\\");
    info.append(SqlInfo::SqlExtraNameCharacters, "$");
    info.append(SqlInfo::SqlSchemaTerm, "schema");
    info.append(SqlInfo::SqlCatalogTerm, "catalog");
    info.append(SqlInfo::SqlProcedureTerm, "procedure");
    info.append(SqlInfo::SqlCatalogAtStart, true);
    info.append(SqlInfo::SqlKeywords, KEYWORDS);
    info.append(SqlInfo::SqlAllTablesAreSelectable, true);
    info.append(SqlInfo::SqlNullOrdering, SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlInfo::SqlNullPlusNullIsNull, true);
}

fn queries(info: &mut SqlInfoDataBuilder) {
    for name in [
        SqlInfo::SqlSupportsColumnAliasing,
        SqlInfo::SqlSupportsTableCorrelationNames,
        SqlInfo::SqlSupportsExpressionsInOrderBy,
        SqlInfo::SqlSupportsOrderByUnrelated,
        SqlInfo::SqlSupportsLikeEscapeClause,
        SqlInfo::SqlSupportsNonNullableColumns,
        SqlInfo::SqlCorrelatedSubqueriesSupported,
        SqlInfo::SqlNamedParametersSupported,
    ] {
        info.append(name, true);
    }
    info.append(SqlInfo::SqlSupportsDifferentTableCorrelationNames, false);
    info.append(
        SqlInfo::SqlSupportedGrammar,
        bits(&[SupportedSqlGrammar::SqlMinimumGrammar as i32, SupportedSqlGrammar::SqlCoreGrammar as i32]),
    );
    info.append(
        SqlInfo::SqlSupportedGroupBy,
        bits(&[SqlSupportedGroupBy::SqlGroupByUnrelated as i32, SqlSupportedGroupBy::SqlGroupByBeyondSelect as i32]),
    );
    info.append(SqlInfo::SqlOuterJoinsSupportLevel, bits(&[SqlOuterJoinsSupportLevel::SqlFullOuterJoins as i32]));
    let subqueries = [
        SqlSupportedSubqueries::SqlSubqueriesInComparisons,
        SqlSupportedSubqueries::SqlSubqueriesInExists,
        SqlSupportedSubqueries::SqlSubqueriesInIns,
        SqlSupportedSubqueries::SqlSubqueriesInQuantifieds,
    ];
    info.append(SqlInfo::SqlSupportedSubqueries, bits(&subqueries.map(|kind| kind as i32)));
    info.append(SqlInfo::SqlSupportedUnions, bits(&[SqlSupportedUnions::SqlUnion as i32, SqlSupportedUnions::SqlUnionAll as i32]));
    info.append(SqlInfo::SqlSupportsConvert, std::collections::BTreeMap::new());
}

/// Zero means "no limit, or unknown".
fn limits(info: &mut SqlInfoDataBuilder) {
    for name in [
        SqlInfo::SqlMaxBinaryLiteralLength,
        SqlInfo::SqlMaxCharLiteralLength,
        SqlInfo::SqlMaxColumnNameLength,
        SqlInfo::SqlMaxColumnsInGroupBy,
        SqlInfo::SqlMaxColumnsInIndex,
        SqlInfo::SqlMaxColumnsInOrderBy,
        SqlInfo::SqlMaxColumnsInSelect,
        SqlInfo::SqlMaxColumnsInTable,
        SqlInfo::SqlMaxConnections,
        SqlInfo::SqlMaxCursorNameLength,
        SqlInfo::SqlMaxIndexLength,
        SqlInfo::SqlDbSchemaNameLength,
        SqlInfo::SqlMaxProcedureNameLength,
        SqlInfo::SqlMaxCatalogNameLength,
        SqlInfo::SqlMaxRowSize,
        SqlInfo::SqlMaxStatementLength,
        SqlInfo::SqlMaxStatements,
        SqlInfo::SqlMaxTableNameLength,
        SqlInfo::SqlMaxTablesInSelect,
        SqlInfo::SqlMaxUsernameLength,
    ] {
        info.append(name, 0_i64);
    }
}

/// What a server that only reads does not have.
fn absent(info: &mut SqlInfoDataBuilder) {
    for name in [
        SqlInfo::SqlSupportsIntegrityEnhancementFacility,
        SqlInfo::SqlSelectForUpdateSupported,
        SqlInfo::SqlStoredProceduresSupported,
        SqlInfo::SqlMaxRowSizeIncludesBlobs,
        SqlInfo::SqlTransactionsSupported,
        SqlInfo::SqlDataDefinitionCausesTransactionCommit,
        SqlInfo::SqlDataDefinitionsInTransactionsIgnored,
        SqlInfo::SqlBatchUpdatesSupported,
        SqlInfo::SqlSavepointsSupported,
        SqlInfo::SqlLocatorsUpdateCopy,
        SqlInfo::SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        info.append(name, false);
    }
    for name in [
        SqlInfo::SqlAnsi92SupportedLevel,
        SqlInfo::SqlSchemasSupportedActions,
        SqlInfo::SqlCatalogsSupportedActions,
        SqlInfo::SqlSupportedPositionedCommands,
        SqlInfo::SqlSupportedTransactionsIsolationLevels,
        SqlInfo::SqlSupportedResultSetTypes,
        SqlInfo::SqlSupportedConcurrenciesForResultSetUnspecified,
        SqlInfo::SqlSupportedConcurrenciesForResultSetForwardOnly,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollSensitive,
        SqlInfo::SqlSupportedConcurrenciesForResultSetScrollInsensitive,
    ] {
        info.append(name, 0);
    }
    info.append(SqlInfo::SqlDefaultTransactionIsolation, i64::from(SqlTransactionIsolationLevel::SqlTransactionNone as i32));
}

/// Enumerations are positions of bits where several may hold.
fn bits(positions: &[i32]) -> i32 {
    positions.iter().fold(0, |all, position| all | 1 << position)
}

/// The types that columns of results can have.
pub(super) fn types() -> Result<XdbcTypeInfoData, QueryError> {
    use XdbcDataType as Code;
    let quoted = Some("'".to_owned());
    let base = |name: &str, code: Code, size: i32| XdbcTypeInfo {
        type_name: name.to_owned(),
        local_type_name: Some(name.to_owned()),
        data_type: code,
        sql_data_type: code,
        column_size: Some(size),
        nullable: Nullable::NullabilityNullable,
        searchable: Searchable::Full,
        ..XdbcTypeInfo::default()
    };
    let number = |name: &str, code: Code, digits: i32, radix: i32, unsigned: bool| XdbcTypeInfo {
        unsigned_attribute: Some(unsigned),
        auto_increment: Some(false),
        num_prec_radix: Some(radix),
        ..base(name, code, digits)
    };
    let text = |name: &str, code: Code, size: i32, prefix: &str| XdbcTypeInfo {
        literal_prefix: Some(prefix.to_owned()),
        literal_suffix: quoted.clone(),
        case_sensitive: true,
        ..base(name, code, size)
    };
    let time = |name: &str, code: Code, size: i32, subcode: XdbcDatetimeSubcode, prefix: &str| XdbcTypeInfo {
        sql_data_type: Code::XdbcDatetime,
        datetime_subcode: Some(subcode),
        case_sensitive: false,
        ..text(name, code, size, prefix)
    };
    let decimal = XdbcTypeInfo {
        create_params: Some(vec!["precision".to_owned(), "scale".to_owned()]),
        minimum_scale: Some(0),
        maximum_scale: Some(76),
        ..number("DECIMAL", Code::XdbcDecimal, 76, 10, false)
    };
    let mut all = XdbcTypeInfoDataBuilder::new();
    for kind in [
        base("BOOLEAN", Code::XdbcBit, 1),
        number("TINYINT", Code::XdbcTinyint, 3, 10, false),
        number("SMALLINT", Code::XdbcSmallint, 5, 10, false),
        number("INT", Code::XdbcInteger, 10, 10, false),
        number("BIGINT", Code::XdbcBigint, 19, 10, false),
        number("BIGINT UNSIGNED", Code::XdbcBigint, 20, 10, true),
        number("REAL", Code::XdbcReal, 24, 2, false),
        number("DOUBLE", Code::XdbcDouble, 53, 2, false),
        decimal,
        text("VARCHAR", Code::XdbcVarchar, i32::MAX, "'"),
        text("BINARY", Code::XdbcVarbinary, i32::MAX, "X'"),
        time("DATE", Code::XdbcDate, 10, XdbcDatetimeSubcode::XdbcSubcodeYear, "DATE '"),
        time("TIME", Code::XdbcTime, 15, XdbcDatetimeSubcode::XdbcSubcodeTime, "TIME '"),
        time("TIMESTAMP", Code::XdbcTimestamp, 26, XdbcDatetimeSubcode::XdbcSubcodeTimestamp, "TIMESTAMP '"),
    ] {
        all.append(kind);
    }
    all.build().map_err(|error| QueryError::Setup(format!("the types of columns: {error}").into()))
}
