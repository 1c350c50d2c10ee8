package connect

import (
	"strconv"
	"strings"
)

// Tasks is into how many tasks a flat configuration divides its connector; 0
// when it does not say.
func Tasks(flat map[string]string) int {
	text := flat["tasks"]
	if text == "" {
		text = flat[keyTasks]
	}
	n, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0
	}
	return n
}
