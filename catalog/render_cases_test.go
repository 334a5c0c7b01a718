package catalog

import (
	"slices"

	"cdc-sidecar/schema"
)

type renderCase struct{ was, is *schema.Definition }

func orders(engine schema.Engine) *schema.Definition {
	if engine == schema.Postgres {
		return define(engine, "orders", []string{"id"}, "id bigint|serial", "customer integer", "note text|null", "price numeric(12,2)|default:0", "state text|default:new",
			"paid boolean|default:0", "at timestamp(3) with time zone|now", "token uuid|uuid", "data jsonb|null|default:{}")
	}
	return define(engine, "orders", []string{"id"}, "id bigint(20)|serial", "customer int(11)", "note longtext|null", "price decimal(12,2)|default:0.00", "state varchar(20)|default:new",
		"paid tinyint(1)|default:0", "at timestamp(3)|now:ON UPDATE CURRENT_TIMESTAMP(3)", "token char(36)", "data json|null")
}

func portableText(s string) schema.Expression {
	return schema.Expression{Kind: schema.PortableText, Text: s}
}

func on(columns ...string) (parts []schema.IndexPart) {
	for _, c := range columns {
		parts = append(parts, schema.IndexPart{Column: c})
	}
	return parts
}

// remove takes a column out of a definition.
func remove(d *schema.Definition, name string) {
	i := d.Column(name)
	d.Columns, d.Details = slices.Delete(d.Columns, i, i+1), slices.Delete(d.Details, i, i+1)
}

// add puts columns of another definition behind those of d.
func add(d, more *schema.Definition) {
	for i := range more.Columns {
		detail := more.Details[i]
		detail.ID += 100
		d.Columns, d.Details = append(d.Columns, more.Columns[i]), append(d.Details, detail)
	}
}

// retype gives a column the type, and what is said with it.
func retype(d *schema.Definition, column string) {
	one := define(d.Engine, "x", nil, column)
	i := d.Column(one.Columns[0].Name)
	id, key := d.Details[i].ID, d.Key
	d.Columns[i], d.Details[i], d.Key = one.Columns[0], one.Details[0], key
	d.Details[i].ID = id
}

// renderCases are the changes, by the file's name.
func renderCases() map[string]renderCase {
	all := map[string]renderCase{}
	for _, engine := range []schema.Engine{schema.Postgres, schema.MariaDB} {
		base := orders(engine)
		change := func(name string, do func(d *schema.Definition)) {
			all[name+"-"+string(engine)] = renderCase{base, changed(base, do)}
		}
		from := func(name string, before, after func(d *schema.Definition)) {
			was := changed(base, before)
			all[name+"-"+string(engine)] = renderCase{was, changed(was, after)}
		}
		tableCases(all, base, engine)
		columnCases(engine, change)
		keyCases(engine, change, from)
		constraintCases(change, from)
	}
	return all
}

func tableCases(all map[string]renderCase, base *schema.Definition, engine schema.Engine) {
	full := changed(base, func(d *schema.Definition) {
		d.Comment = "what people \\ buy, it's all"
		d.Details[2].Comment = "free text"
		d.Indexes = []schema.Index{{Name: "by_customer", Parts: on("customer", "at")}, {Name: "state", Unique: true, Parts: on("state")}}
		d.ForeignKeys = []schema.ForeignKey{{Name: "of_customer", Columns: []string{"customer"}, Parent: schema.TableName{Name: "customers"}, ParentColumns: []string{"id"}, OnDelete: schema.Cascade, OnUpdate: schema.SetDefault}}
		d.Checks = []schema.Check{{Name: "positive", Expression: portableText(`"price" >= 0 AND ("state" IN ('new', 'it''s') OR "note" IS NULL)`)}}
	})
	all["create-table-"+string(engine)] = renderCase{nil, full}
	text := map[bool]string{true: "text", false: "varchar(60)"}[engine == schema.Postgres]
	tree := define(engine, "orders", []string{"code"}, "code "+text, "above "+text+"|null", "title "+text)
	tree.ForeignKeys = []schema.ForeignKey{{Name: "of_above", Columns: []string{"above"}, Parent: schema.TableName{Name: "orders"}, ParentColumns: []string{"code"}, OnDelete: schema.Cascade}}
	tree.Indexes = []schema.Index{{Name: "titles", Unique: true, Parts: on("title")}}
	if engine != schema.Postgres { // which makes one for a foreign key
		tree.Indexes = append(tree.Indexes, schema.Index{Name: "of_above", Parts: on("above")})
	}
	all["text-keys-"+string(engine)] = renderCase{nil, tree}
	all["drop-table-"+string(engine)] = renderCase{base, nil}
	all["rename-table-"+string(engine)] = renderCase{base, changed(base, func(d *schema.Definition) { d.TableName = schema.TableName{Schema: "shop", Name: "Orders"} })}
	all["comment-table-"+string(engine)] = renderCase{base, changed(base, func(d *schema.Definition) { d.Comment = "it's" })}
}

func columnCases(engine schema.Engine, change func(string, func(*schema.Definition))) {
	postgres := engine == schema.Postgres
	pick := func(p, m string) string {
		if postgres {
			return p
		}
		return m
	}
	change("add-column", func(d *schema.Definition) {
		add(d, define(engine, "x", nil, pick("a varchar(40)", "a varchar(40)")+"|null", pick("b integer", "b int(11)"), "c date|default:2020-01-02", pick("d bytea|default:a\x01", "d varbinary(10)|default:a\x01"),
			pick("e double precision|default:NaN", "e datetime|default:0000-00-00 00:00:00"), pick("f json", "f json"), pick("g bit(3)|default:101", "g bit(3)|default:101"), "h date",
			pick("i timestamp without time zone|now", "i datetime|now"), pick("k text|default:it's\\", "k text|default:it's\\")))
	})
	change("add-computed", func(d *schema.Definition) {
		add(d, define(engine, "x", nil, pick("total numeric(14,2)", "total decimal(14,2)")+`|null|computed:"price" * 1.2`, pick("half numeric", "half decimal(14,2)")+`|null|computed:"price" / 2`))
	})
	change("add-enum", func(d *schema.Definition) {
		add(d, define(engine, "x", nil, pick(`mood public."Mood"|labels:sad,it's|default:sad`, "mood enum('sad','it''s')|default:sad")))
	})
	change("rename-column", func(d *schema.Definition) { d.Columns[2].Name, d.Columns[4].Name = "state", "status" })
	change("drop-column", func(d *schema.Definition) { remove(d, "note") })
	change("drop-and-add", func(d *schema.Definition) {
		remove(d, "note")
		add(d, define(engine, "x", nil, pick("note integer", "note int(11)")+"|null"))
	})
	change("widen", func(d *schema.Definition) {
		retype(d, pick("customer bigint", "customer bigint(20)"))
		retype(d, pick("price numeric(20,4)|default:0", "price decimal(20,4)|default:0.0000"))
		retype(d, pick("state varchar(200)|default:new", "state varchar(200)|default:new"))
	})
	change("retype", func(d *schema.Definition) {
		retype(d, pick("state integer|default:7", "state int(11)|default:7"))
		retype(d, pick("paid smallint|default:0", "paid varchar(9)|default:0"))
		retype(d, pick("note bytea|null", "note longblob|null"))
		retype(d, pick("token text", "token binary(16)"))
	})
	change("default", func(d *schema.Definition) {
		d.Details[1].Default = schema.Expression{Kind: schema.LiteralValue, Text: "5"}
		d.Details[3].Default = schema.Expression{}
		d.Details[6].Default = schema.Expression{}
		d.Details[4].Default = schema.Expression{Kind: schema.NativeText, Text: "current_user"}
		d.Details[2].Default = schema.Expression{Kind: schema.LiteralValue, Text: "a 'b'"}
	})
	change("nullable", func(d *schema.Definition) {
		d.Columns[1].Nullable, d.Columns[2].Nullable, d.Columns[6].Nullable = true, false, true
	})
	change("serial-off", func(d *schema.Definition) { d.Details[0].Serial = false })
	change("comment-column", func(d *schema.Definition) { d.Details[3].Comment = "net, in €" })
}

func keyCases(engine schema.Engine, change func(string, func(*schema.Definition)), from func(string, func(*schema.Definition), func(*schema.Definition))) {
	change("key", func(d *schema.Definition) { d.Key = []int{d.Column("state"), 0} })
	from("serial-on", func(d *schema.Definition) { d.Details[0].Serial = false }, func(d *schema.Definition) { d.Details[0].Serial = true })
	typ := map[bool]string{true: "mood mood|labels:a,b", false: "mood enum('a','b')"}[engine == schema.Postgres]
	more := map[bool]string{true: "mood mood|labels:z,a,b,c", false: "mood enum('a','b','c')"}[engine == schema.Postgres]
	less := map[bool]string{true: "mood mood|labels:a,B", false: "mood enum('a')"}[engine == schema.Postgres]
	enum := func(d *schema.Definition) { add(d, define(engine, "x", nil, typ)) }
	from("labels", enum, func(d *schema.Definition) { retype(d, more) })
	from("labels-other", enum, func(d *schema.Definition) { retype(d, less) })
	computed := func(x string) func(*schema.Definition) {
		return func(d *schema.Definition) {
			d.Details[2].Computed, d.Details[2].Stored, d.Columns[2].Generated = portableText(x), true, true
		}
	}
	from("computed", computed(`UPPER("state")`), computed(`LOWER("state")`))
	from("computed-off", computed(`UPPER("state")`), func(d *schema.Definition) {
		d.Details[2].Computed, d.Details[2].Stored, d.Columns[2].Generated = schema.Expression{}, false, false
	})
}

func constraintCases(change func(string, func(*schema.Definition)), from func(string, func(*schema.Definition), func(*schema.Definition))) {
	indexes := func(d *schema.Definition) {
		d.Indexes = []schema.Index{
			{Name: "plain", Parts: []schema.IndexPart{{Column: "customer"}, {Column: "at", Descending: true}}},
			{Name: "orders_note", Parts: on("note")},
			{Name: "uniq", Unique: true, Parts: on("state", "customer")},
			{Name: "a name that is longer than what either of the two engines would keep of it, at all", Parts: on("paid")},
			{Name: "expression", Parts: []schema.IndexPart{{Expression: portableText(`LOWER("state")`)}}},
		}
		if d.Engine == schema.Postgres {
			d.Indexes = append(d.Indexes, schema.Index{Name: "gin", Method: "gin", Parts: on("data")}, schema.Index{Name: "part", Parts: on("customer"), Where: portableText(`"paid"`)},
				schema.Index{Name: "upart", Unique: true, Parts: on("customer"), Where: portableText(`NOT "paid"`)},
				schema.Index{Name: "covers", Parts: on("customer"), Native: "CREATE INDEX covers ON public.orders USING btree (customer) INCLUDE (note)"})
		} else {
			d.Indexes = append(d.Indexes, schema.Index{Name: "words", Method: "fulltext", Parts: on("note")}, schema.Index{Name: "begins", Parts: []schema.IndexPart{{Column: "note", Prefix: 20}}})
		}
	}
	change("index", indexes)
	from("index-drop", indexes, func(d *schema.Definition) { d.Indexes = nil })
	from("rename-checked", func(d *schema.Definition) {
		d.Checks = []schema.Check{{Name: "positive", Expression: portableText(`"price" > 0 AND "state" <> 'price'`)}}
		d.Indexes = []schema.Index{{Name: "prices", Parts: on("price", "state")}}
	}, func(d *schema.Definition) {
		d.Columns[3].Name, d.Indexes[0].Parts[0].Column = "cost", "cost"
		d.Checks[0].Expression.Text = `"cost" > 0 AND "state" <> 'price'`
	})
	from("exchange", func(*schema.Definition) {}, func(d *schema.Definition) { d.Columns[2].Name, d.Columns[4].Name = "state", "note" })
	checks := func(d *schema.Definition) {
		d.Checks = []schema.Check{
			{Name: "range", Expression: portableText(`"price" BETWEEN 0 AND 100 AND NOT ("customer" + 1 < 2 OR CHAR_LENGTH("state") > 5)`)},
			{Name: "divided", Expression: portableText(`"price" / 2 > 1`)},
			{Name: "backslash", Expression: portableText(`"state" <> 'a\b'`)},
			{Name: "own", Expression: schema.Expression{Kind: schema.NativeText, Text: "whatever(note)"}},
		}
	}
	change("check", checks)
	from("check-drop", checks, func(d *schema.Definition) { d.Checks = nil })
	keys := func(d *schema.Definition) {
		d.ForeignKeys = []schema.ForeignKey{
			{Name: "parent", Columns: []string{"customer"}, Parent: schema.TableName{Schema: "shop", Name: "customers"}, ParentColumns: []string{"id"}, OnDelete: schema.SetNull, OnUpdate: schema.Cascade},
			{Name: "self", Columns: []string{"customer"}, Parent: schema.TableName{Name: "orders"}, ParentColumns: []string{"id"}, OnDelete: schema.SetDefault},
		}
	}
	change("foreign-key", keys)
	from("foreign-key-drop", keys, func(d *schema.Definition) { d.ForeignKeys = nil })
}
