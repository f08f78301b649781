import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.StringJoiner;
import org.apache.spark.sql.Column;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.apache.spark.sql.delta.DeltaLog;
import org.apache.spark.sql.functions;
import org.apache.spark.sql.types.ArrayType;
import org.apache.spark.sql.types.DataType;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.DecimalType;
import org.apache.spark.sql.types.StructField;
import org.apache.spark.sql.types.StructType;

/**
 * What Spark with delta-spark sees in tables, in the words of readers.py: for each line of standard input one JSON object, until there are
 * no more lines. Nothing is kept from one line to the next.
 *
 * <p>{@code FOLDER<tab>FOLDER... -> {"FOLDER": {"rows": n, "columns": {NAME: {"type", "nulls", "distinct", "sum", "least", "greatest"}}}}}
 */
final class SparkReader {
    /** A column, or a value inside of a nested one. */
    private record Leaf(String name, Column values, DataType type) {}

    private static final List<String> WHOLE = List.of("tinyint", "smallint", "int", "bigint");

    public static void main(String[] arguments) {
        SparkSession spark = SparkSession.builder()
                .master("local[2]")
                .config("spark.ui.enabled", false)
                .config("spark.driver.bindAddress", "127.0.0.1")
                .config("spark.driver.host", "127.0.0.1")
                .config("spark.sql.session.timeZone", "UTC")
                .config("spark.sql.datetime.java8API.enabled", true)
                .config("spark.sql.shuffle.partitions", 1)
                // Tables are small and columns many: what compiles the aggregates would take longer than they do.
                .config("spark.sql.codegen.wholeStage", false)
                .config("spark.sql.codegen.factoryMode", "NO_CODEGEN")
                .config("spark.log.level", "ERROR")
                .config("spark.databricks.delta.snapshotPartitions", 1)
                .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
                .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
                .getOrCreate();
        try (BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8))) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                // An empty line asks for no folder.
                System.out.println(answer(spark, line.isEmpty() ? new String[0] : line.split("\t")));
            }
        } catch (Exception failed) {
            failed.printStackTrace();
            // Spark's threads would go on.
            System.exit(1);
        }
        spark.stop();
    }

    private static String answer(SparkSession spark, String[] folders) {
        // What it knows of a table's log from an earlier line must not hide what is in it now.
        DeltaLog.clearCache();
        StringJoiner all = new StringJoiner(", ", "{", "}");
        for (String folder : folders) {
            all.add(json(folder) + ": " + summary(spark.read().format("delta").load(folder)));
        }
        return all.toString();
    }

    private static String summary(Dataset<Row> table) {
        List<Leaf> leaves = new ArrayList<>();
        for (StructField field : table.schema().fields()) {
            leaves(field.name(), functions.col("`" + field.name() + "`"), field.dataType(), leaves);
        }
        // One pass for all of it, except for what is different: Spark would compute each of several DISTINCTs in a copy of the rows.
        List<Column> asked = new ArrayList<>();
        for (Leaf leaf : leaves) {
            asked.add(functions.count(functions.when(leaf.values.isNull(), 1)));
            boolean nested = isNested(leaf.type);
            asked.add(nested ? functions.lit(null) : functions.size(functions.collect_set(leaf.values)));
            asked.add(isSummed(leaf.type) ? functions.sum(leaf.values) : functions.lit(null));
            asked.add(nested ? functions.lit(null) : functions.min(leaf.values));
            asked.add(nested ? functions.lit(null) : functions.max(leaf.values));
        }
        Row found = table.agg(functions.count(functions.lit(1)), asked.toArray(new Column[0])).head();
        StringJoiner columns = new StringJoiner(", ", "{", "}");
        for (int at = 0; at < leaves.size(); at++) {
            Leaf leaf = leaves.get(at);
            StringJoiner about = new StringJoiner(", ", "{", "}");
            String[] names = {"nulls", "distinct", "sum", "least", "greatest"};
            about.add("\"type\": " + json(leaf.type.simpleString()));
            for (int name = 0; name < names.length; name++) {
                about.add(json(names[name]) + ": " + json(found.get(1 + at * names.length + name)));
            }
            columns.add(json(leaf.name) + ": " + about);
        }
        return "{\"rows\": " + found.getLong(0) + ", \"columns\": " + columns + "}";
    }

    /** A column, and under names of their own the values inside of it. */
    private static void leaves(String name, Column values, DataType type, List<Leaf> leaves) {
        leaves.add(new Leaf(name, values, type));
        if (type instanceof StructType struct) {
            for (StructField field : struct.fields()) {
                leaves(name + "." + field.name(), values.getField(field.name()), field.dataType(), leaves);
            }
        } else if (type instanceof ArrayType) {
            Column length = functions.when(values.isNotNull(), functions.size(values).cast("bigint"));
            leaves.add(new Leaf(name + ".length", length, DataTypes.LongType));
        }
    }

    private static boolean isNested(DataType type) {
        return type instanceof StructType || type instanceof ArrayType;
    }

    private static boolean isSummed(DataType type) {
        return type instanceof DecimalType || WHOLE.contains(type.simpleString());
    }

    /** Decimals as text, times as microseconds, bytes in hexadecimal, dates as ISO 8601. */
    private static String json(Object value) {
        if (value == null || value instanceof Boolean || value instanceof Number && !(value instanceof BigDecimal)) {
            return String.valueOf(value);
        }
        if (value instanceof Instant time) {
            return String.valueOf(time.getEpochSecond() * 1_000_000 + time.getNano() / 1_000);
        }
        String text = value instanceof BigDecimal decimal ? decimal.toPlainString()
                : value instanceof byte[] bytes ? HexFormat.of().formatHex(bytes) : value.toString();
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            quoted.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return quoted.append('"').toString();
    }
}
