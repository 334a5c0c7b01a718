package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// ticks is USER_HZ, the unit of /proc's times: 100 a second on every Linux that Go runs on.
const ticks = 100

// cpuSeconds is what a process, its descendants, and those of them that have ended, have used; 0 for pid 0, which is a
// process that does not run.
func cpuSeconds(pid int) (float64, error) {
	if pid == 0 {
		return 0, nil
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time: %w", err)
	}
	total, err := parseStat(text)
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		text, _ := os.ReadFile(list) // gone: that thread has no children
		for _, word := range strings.Fields(string(text)) {
			child, err := strconv.Atoi(word)
			if err != nil {
				continue
			}
			seconds, err := cpuSeconds(child)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // one that ended just now counts with its parent
				return 0, err
			}
			total += seconds
		}
	}
	return total, nil
}

// parseStat reads utime, stime, cutime and cstime, the 14th to 17th words. The second is the name in parentheses, which may
// contain both spaces and parentheses.
func parseStat(text []byte) (seconds float64, err error) {
	end := bytes.LastIndexByte(text, ')')
	words := strings.Fields(string(text[end+1:]))
	if end < 0 || len(words) < 15 {
		return 0, fmt.Errorf("not a line of /proc/*/stat: %q", text)
	}
	for _, word := range words[11:15] {
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return 0, err
		}
		seconds += float64(n) / ticks
	}
	return seconds, nil
}

// rss is a process' resident memory, now and at its peak, in MB (of 1,000,000 bytes).
type rss struct{ now, peak float64 }

func memoryOf(pid int) (rss, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return rss{}, fmt.Errorf("memory: %w", err)
	}
	return parseStatus(string(text))
}

func parseStatus(text string) (rss, error) {
	var r rss
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		if name != "VmHWM" && name != "VmRSS" {
			continue
		}
		kib, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		if err != nil {
			return r, fmt.Errorf("%s: %w", name, err)
		}
		if name == "VmHWM" {
			r.peak = kib * 1024 / 1e6
		} else {
			r.now = kib * 1024 / 1e6
		}
	}
	if r.peak == 0 {
		return r, errors.New("memory: no VmHWM in /proc/*/status")
	}
	return r, nil
}
