package main

// nearest is the name that word was probably meant to be: the one with the fewest letters to change, if that is at most
// half of the word's; "" when none is near.
func nearest(word string, names []string) string {
	best, fewest := "", max(2, len(word)/2)+1
	for _, name := range names {
		if n := distance(word, name); n < fewest {
			best, fewest = name, n
		}
	}
	return best
}

// distance is Levenshtein's: how many bytes to insert, delete or replace to come from a to b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
