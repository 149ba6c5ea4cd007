// Go's net/http.
package main

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

var site = os.Getenv("ZOO_SITE")

type row struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

func sendJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}

func data(w http.ResponseWriter, _ *http.Request) {
	value, _ := os.ReadFile(site + "/value.txt")
	rows := make([]row, 20)
	for n := range rows {
		rows[n] = row{n, fmt.Sprintf("row %d", n)}
	}
	sendJSON(w, map[string]any{"value": string(value), "rows": rows})
}

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			http.NotFound(w, r)
			return
		}
		http.ServeFile(w, r, site+"/index.html")
	})
	http.HandleFunc("/data", data)
	http.HandleFunc("/save", func(w http.ResponseWriter, r *http.Request) {
		os.WriteFile(site+"/value.txt", []byte(r.FormValue("value")), 0o644)
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	http.HandleFunc("/upload", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		sendJSON(w, map[string]any{"bytes": len(body), "sha1": fmt.Sprintf("%x", sha1.Sum(body))})
	})
	http.HandleFunc("/file.bin", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, site+"/file.bin") })
	http.HandleFunc("/wait", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(300 * time.Millisecond)
		io.WriteString(w, "waited")
	})
	http.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/data", http.StatusFound) })
	http.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload; as=style")
		w.WriteHeader(http.StatusEarlyHints)
		data(w, r)
	})
	http.HandleFunc("/events", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for _, event := range []string{"one", "two", "three"} {
			fmt.Fprintf(w, "data: %s\n\n", event)
			w.(http.Flusher).Flush()
			time.Sleep(50 * time.Millisecond)
		}
	})
	if err := http.ListenAndServe("127.0.0.1:"+os.Args[1], nil); err != nil {
		panic(err)
	}
}
