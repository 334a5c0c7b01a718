package apply

import (
	"fmt"

	"cdc-sidecar/schema"
)

// columnType proposes a type for a column that the target lacks: the same where the engines are of one family, else the
// nearest that holds every value.
func columnType(c schema.Column, source, target schema.Engine) string {
	if (source == schema.Postgres) == (target == schema.Postgres) && c.Native != "" {
		return c.Native
	}
	if target == schema.Postgres {
		return postgresType(c)
	}
	return mysqlType(c)
}

func postgresType(c schema.Column) string {
	switch c.Kind {
	case schema.KindBool:
		return "boolean"
	case schema.KindInt:
		switch {
		case c.Size == 64 && c.Unsigned:
			return "numeric(20,0)"
		case c.Size == 64 || c.Size == 32 && c.Unsigned:
			return "bigint"
		case c.Size > 16 || c.Size == 16 && c.Unsigned:
			return "integer"
		}
		return "smallint"
	case schema.KindDecimal:
		return fmt.Sprintf("numeric(%d,%d)", c.Size, max(c.Scale, 0))
	case schema.KindFloat:
		return map[bool]string{true: "real", false: "double precision"}[c.Size == 32]
	case schema.KindBytes:
		return "bytea"
	case schema.KindDate, schema.KindTime, schema.KindTimestamp, schema.KindTimestampTZ, schema.KindUUID:
		return c.Kind.String()
	case schema.KindYear:
		return "smallint"
	case schema.KindJSON:
		return "json"
	case schema.KindBit:
		return fmt.Sprintf("bit(%d)", c.Size)
	default:
		return "text"
	}
}

func mysqlType(c schema.Column) string {
	switch c.Kind {
	case schema.KindBool:
		return "tinyint(1)"
	case schema.KindInt:
		return map[int]string{8: "tinyint", 16: "smallint", 24: "mediumint", 32: "int"}[c.Size] + map[bool]string{true: "bigint"}[c.Size == 64 || c.Size == 0]
	case schema.KindDecimal:
		if c.Size == 0 {
			return "decimal(65,30)"
		}
		return fmt.Sprintf("decimal(%d,%d)", c.Size, max(c.Scale, 0))
	case schema.KindFloat:
		return map[bool]string{true: "float", false: "double"}[c.Size == 32]
	case schema.KindBytes:
		return "longblob"
	case schema.KindDate:
		return "date"
	case schema.KindTime:
		return "time(6)"
	case schema.KindTimestamp, schema.KindTimestampTZ:
		return "datetime(6)"
	case schema.KindUUID:
		return "char(36) character set ascii"
	case schema.KindJSON:
		return "json"
	case schema.KindEnum:
		return "varchar(255)"
	case schema.KindBit:
		return fmt.Sprintf("bit(%d)", c.Size)
	case schema.KindText:
		if c.Size > 0 && c.Size <= 1000 {
			return fmt.Sprintf("varchar(%d) character set utf8mb4", c.Size)
		}
	}
	return "longtext"
}
