package demo

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// generatedLines is the size of the log that stands in when no input is given.
const generatedLines = 2000

// generate writes a small web access log in the combined format: the same
// lines each time. It is a stand-in, and the demo says so.
func generate(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	rng := rand.New(rand.NewPCG(1, 2))
	pages := []string{"/", "/products", "/products/7", "/cart", "/about", "/search?q=port", "/static/site.css", "/favicon.ico"}
	agents := []string{"Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/128.0", "curl/8.5.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)"}
	at := time.Date(2026, 1, 5, 8, 0, 0, 0, time.UTC)
	for range generatedLines {
		at = at.Add(time.Duration(rng.IntN(20)) * time.Second)
		status := 200
		if rng.IntN(20) == 0 {
			status = 404
		}
		_, err := fmt.Fprintf(w, "10.%d.%d.%d - - [%s] \"GET %s HTTP/1.1\" %d %d \"-\" \"%s\"\n",
			rng.IntN(4), rng.IntN(8), rng.IntN(250)+1, at.Format("02/Jan/2006:15:04:05 -0700"),
			pages[rng.IntN(len(pages))], status, rng.IntN(50000), agents[rng.IntN(len(agents))])
		if err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
