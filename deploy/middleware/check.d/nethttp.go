// The program with which ../check tests ../nethttp.go, which it copies to the folder tenantry next to this one.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"

	"check/tenantry"
)

func show(w http.ResponseWriter, r *http.Request) {
	caller := tenantry.Of(r)
	json.NewEncoder(w).Encode(map[string]any{
		"organization": caller.Organization.ID, "key": caller.Key.ID, "scopes": caller.Key.Scopes,
	})
}

func main() {
	t := tenantry.New()
	switch os.Getenv("MISTAKE") {
	case "no scope":
		t.Require()
	case "no list":
		t.RequireAny()
	case "an empty list":
		t.RequireAny([]string{})
	case "not a scope":
		t.Require("docs:read docs:write")
	}
	t.Resource = func(r *http.Request) string {
		if _, pattern := http.DefaultServeMux.Handler(r); pattern == "/docs/" {
			return r.Method + " /docs/:id"
		}
		return r.Method
	}
	handler := http.HandlerFunc(show)
	http.Handle("/docs/", t.Require("docs:read")(handler))
	http.Handle("/both", t.Require("docs:read", "docs:write")(handler))
	http.Handle("/either", t.RequireAny([]string{"docs:write"}, []string{"docs:read"})(handler))
	http.Handle("/any", t.Check(handler))
	http.Handle("/twice", t.Check(t.Require("docs:read")(handler)))
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
