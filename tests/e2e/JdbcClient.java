import java.math.BigDecimal;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.Instant;
import java.time.LocalDate;
import java.util.Calendar;
import java.util.StringJoiner;
import java.util.TimeZone;

/**
 * What the Flight SQL JDBC driver is answered, in the words of clients.py: one JSON array on standard output.
 *
 * <p>{@code JdbcClient URL QUERY... -> [{"columns": [NAME, ...], "types": [NAME, ...], "rows": [[VALUE, ...], ...]}, ...]}
 *
 * <p>A query may be followed by values of its parameters, each after a tab: a kind and a colon, then the value ({@code text:Lima},
 * {@code long:7}, {@code double:0.5}, {@code decimal:1.50}, {@code instant:2024-06-01T00:00:00Z}, {@code boolean:true}, {@code null:}).
 */
final class JdbcClient {
    public static void main(String[] arguments) throws SQLException {
        StringJoiner answers = new StringJoiner(", ", "[", "]");
        try (Connection connection = DriverManager.getConnection(arguments[0])) {
            for (int at = 1; at < arguments.length; at++) {
                // A plain Statement lists the columns of an empty result twice: https://github.com/apache/arrow-java/issues/44
                String[] parts = arguments[at].split("\t");
                try (PreparedStatement statement = connection.prepareStatement(parts[0])) {
                    for (int parameter = 1; parameter < parts.length; parameter++) {
                        bind(statement, parameter, parts[parameter]);
                    }
                    try (ResultSet result = statement.executeQuery()) {
                        answers.add(answer(result));
                    }
                }
            }
        }
        System.out.println(answers);
    }

    private static void bind(PreparedStatement statement, int parameter, String described) throws SQLException {
        String value = described.substring(described.indexOf(':') + 1);
        switch (described.substring(0, described.indexOf(':'))) {
            case "text" -> statement.setString(parameter, value);
            case "long" -> statement.setLong(parameter, Long.parseLong(value));
            case "double" -> statement.setDouble(parameter, Double.parseDouble(value));
            case "decimal" -> statement.setBigDecimal(parameter, new BigDecimal(value));
            case "boolean" -> statement.setBoolean(parameter, Boolean.parseBoolean(value));
            // Without the calendar the driver sends the wall clock of where the JVM runs.
            case "instant" -> statement.setTimestamp(parameter, Timestamp.from(Instant.parse(value)), Calendar.getInstance(TimeZone.getTimeZone("UTC")));
            case "null" -> statement.setNull(parameter, Types.NULL);
            default -> throw new IllegalArgumentException(described);
        }
    }

    private static String answer(ResultSet result) throws SQLException {
        ResultSetMetaData about = result.getMetaData();
        StringJoiner columns = new StringJoiner(", ", "[", "]");
        StringJoiner types = new StringJoiner(", ", "[", "]");
        for (int column = 1; column <= about.getColumnCount(); column++) {
            columns.add(json(about.getColumnLabel(column)));
            types.add(json(about.getColumnTypeName(column)));
        }
        StringJoiner rows = new StringJoiner(", ", "[", "]");
        while (result.next()) {
            StringJoiner row = new StringJoiner(", ", "[", "]");
            for (int column = 1; column <= about.getColumnCount(); column++) {
                row.add(value(result, column, about.getColumnType(column)));
            }
            rows.add(row.toString());
        }
        return "{\"columns\": " + columns + ", \"types\": " + types + ", \"rows\": " + rows + "}";
    }

    private static String value(ResultSet result, int column, int type) throws SQLException {
        return switch (type) {
            // getObject(int) is not implemented for times with a zone in 18.3.0: https://github.com/apache/arrow-java/issues/839
            case Types.TIMESTAMP_WITH_TIMEZONE -> json(result.getObject(column, Instant.class));
            case Types.DATE -> json(result.getObject(column, LocalDate.class));
            // Lists and structs are JSON as text.
            case Types.ARRAY, Types.JAVA_OBJECT -> result.getString(column);
            default -> json(result.getObject(column));
        };
    }

    private static String json(Object value) {
        if (value == null || value instanceof Number && !(value instanceof BigDecimal) || value instanceof Boolean) {
            return String.valueOf(value);
        }
        String text = value instanceof BigDecimal decimal ? decimal.toPlainString() : value.toString();
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            quoted.append(c == '"' || c == '\\' ? "\\" + c : c < ' ' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return quoted.append('"').toString();
    }
}
