package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// environment looks a variable up, as os.LookupEnv does.
type environment func(name string) (string, bool)

// overrides are the variables that win over the file; each has a _FILE form, for mounted secrets.
var overrides = []struct{ variable, key string }{
	{"CDC_OFFICE", "office"},
	{"CDC_DATABASE", "database"},
	{"CDC_BROKER", "broker"},
	{"CDC_DATA", "data"},
	{"CDC_ADMIN", "admin"},
	{"CDC_ADMIN_TOKEN", "admin_token"},
}

// override puts the variables' values over the file's. A variable that is set and empty counts as not set: that is how
// compose files pass on what nobody gave.
func (d *document) override() {
	for _, o := range overrides {
		text, from, err := fromEnvironment(o.variable, d.env)
		switch {
		case err != nil:
			d.blamed[o.key] = true
			d.fail(0, "%v", err)
		case text != "":
			d.settings[o.key] = setting{text: text, from: from}
		}
	}
}

func fromEnvironment(variable string, env environment) (text, from string, err error) {
	text, _ = env(variable)
	file, _ := env(variable + "_FILE")
	switch {
	case text != "" && file != "":
		return "", "", fmt.Errorf("%s and %s_FILE are both set; want one", variable, variable)
	case file == "":
		return text, variable, nil
	}
	secret, err := os.ReadFile(file)
	if err != nil {
		return "", "", fmt.Errorf("%s_FILE: %w", variable, err)
	}
	text = strings.TrimRight(string(secret), "\r\n")
	if text == "" {
		return "", "", fmt.Errorf("%s_FILE: %s is empty", variable, file)
	}
	return text, variable + "_FILE", nil
}

// $${ stands for ${ itself; everything else that begins with ${ is a variable, and an unfinished one is an error.
var variablePattern = regexp.MustCompile(`\$\$\{|\$\{(?:([A-Za-z_][A-Za-z0-9_]*)(:-[^}]*)?\})?`)

// expand replaces ${VAR} and ${VAR:-default}; as in a shell, the default also stands for an empty variable.
func expand(text string, env environment) (string, error) {
	var failed error
	out := variablePattern.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return "${"
		}
		part := variablePattern.FindStringSubmatch(match)
		name, fallback := part[1], part[2]
		value, set := env(name)
		switch {
		case name == "":
			failed = fmt.Errorf("want ${VARIABLE} or ${VARIABLE:-default} (write $${ for ${ itself)")
		case fallback != "" && value == "":
			return fallback[len(":-"):]
		case !set:
			failed = fmt.Errorf("the variable %s is not set; set it, or write ${%s:-default}", name, name)
		}
		return value
	})
	return out, failed
}
