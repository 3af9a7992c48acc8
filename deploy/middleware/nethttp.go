// Package tenantry checks the API keys of your customers with Tenantry, for net/http. Needs Go 1.18 or later.
//
//		t := tenantry.New()            // then, so that every route needs a valid key: http.ListenAndServe(addr, t.Check(mux))
//		mux.Handle("/docs/", t.Require("docs:read")(docs))                        // or, with a scope
//		func docs(w http.ResponseWriter, r *http.Request) { id := tenantry.Of(r).Organization.ID … }
//
//	  - TENANTRY_URL is http://…, https://… or unix:/path. TENANTRY_VERIFIER is the secret in VERIFIER_KEYS, without its
//	    name; a unix socket of VERIFY_ADDR needs none. New panics without them.
//	  - A handler runs only after Tenantry answered, during this request, that the key is valid. Nothing is cached, and
//	    nothing in the Verdict comes from the client's request.
//	  - Require("a:read", "b:read") needs both scopes, RequireAny([]string{"a:read"}, []string{"b:read"}) either. Behind
//	    Check they use its verdict if it is for an organization's key that has the scopes. Otherwise they make a check
//	    of their own. Each check that accepts counts as usage.
//	  - The answer is 401, 403 or 429 as the verdict says, 400 for two credentials, and 503 if there is no verdict within
//	    500 ms. Only a refused connection is tried again, once.
//	  - The client's address is that of RemoteAddr. Behind a proxy, set Address to a function that returns the address as
//	    your proxy reports it. Set Resource to return the route's template, which is r.Pattern from Go 1.23 on.
package tenantry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Verdict describes a valid key, its scopes and its owner.
type Verdict struct {
	Organization *struct{ ID, Name, Plan string }
	Account      *struct{ ID, Email string } // nil for an organization's key
	Key          struct {
		ID, Name, Prefix string
		Scopes           []string
		Metadata         map[string]any
	}
}

// Client makes the checks. Set its functions before it is used.
type Client struct {
	Address, Resource func(*http.Request) string
	request           *http.Request
	http              http.Client
}

type contextKey struct{}

var bearer, isKey = regexp.MustCompile(`(?i)^bearer (.*)$|.*`), regexp.MustCompile(`^[!-~]{1,512}$`)
var isScope = regexp.MustCompile(`^(\*|[a-z][a-z0-9-]*:(\*|[a-z][a-z0-9-]*))$`)
var isOrigin = regexp.MustCompile(`^[!-~]{1,256}$`)

const invalid = "This credential is not valid" // one text for all, so that nobody learns which keys exist

// The verdicts that reject: the status and the message.
var rejections = map[string]rejection{
	"key_malformed": {401, invalid}, "key_unknown": {401, invalid}, "key_revoked": {401, invalid},
	"key_expired": {401, invalid}, "key_rotated": {401, invalid}, "key_disabled": {401, invalid},
	"owner_disabled":         {401, invalid},
	"scope_missing":          {403, "This credential lacks a required scope"},
	"organization_suspended": {403, "This organization is suspended"},
	"origin_not_allowed":     {403, "This credential may not be used from this origin"},
	"address_not_allowed":    {403, "This credential may not be used from this address"},
	"address_unknown":        {403, "This credential may not be used from an unknown address"},
	"rate_limited":           {429, "Too many requests"},
	"quota_exceeded":         {429, "The monthly quota of requests is used up"},
	"credits_exhausted":      {429, "The credits are used up"},
}

type rejection struct {
	status  int
	message string
}

// Of returns the verdict on a request's key. It panics in a handler that no check protects.
func Of(r *http.Request) *Verdict { return r.Context().Value(contextKey{}).(*Verdict) }

// New returns a client with the settings of the environment.
func New() *Client {
	url, secret := os.Getenv("TENANTRY_URL"), os.Getenv("TENANTRY_VERIFIER")
	path := strings.TrimPrefix(url, "unix:")
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		if path != url {
			network, address = "unix", path
		}
		connection, err := new(net.Dialer).DialContext(ctx, network, address)
		if errors.Is(err, syscall.ECONNREFUSED) {
			time.Sleep(100 * time.Millisecond)
			connection, err = new(net.Dialer).DialContext(ctx, network, address)
		}
		return connection, err
	}
	base := map[bool]string{true: "http://localhost", false: strings.TrimRight(url, "/")}[path != url]
	request, err := http.NewRequest("POST", base+"/v1/verify", nil)
	if err != nil || !strings.HasPrefix(base, "http") || path == url && secret == "" {
		panic("TENANTRY_URL must be http://…, https://… or unix:/path, and TENANTRY_VERIFIER the verifier's secret")
	}
	request.Header = http.Header{"Content-Type": {"application/json"}, "X-Tenantry-Verifier": {secret}}
	address := func(r *http.Request) string { host, _, _ := net.SplitHostPort(r.RemoteAddr); return host }
	transport := &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	client := http.Client{Transport: transport, CheckRedirect: noRedirect, Timeout: 500 * time.Millisecond}
	return &Client{address, func(r *http.Request) string { return r.Method }, request, client}
}

// Check is a middleware that checks the key.
func (t *Client) Check(next http.Handler) http.Handler { return t.middleware(nil)(next) }

// Require returns a middleware that checks the key and that it has all of the scopes.
func (t *Client) Require(scopes ...string) func(http.Handler) http.Handler {
	return t.RequireAny(scopes)
}

// RequireAny returns a middleware that checks the key and that it has all scopes of any of the lists.
// It panics without a list, or if a list is empty or contains text that is no scope.
func (t *Client) RequireAny(lists ...[]string) func(http.Handler) http.Handler {
	isValid := len(lists) > 0
	for _, list := range lists {
		isValid = isValid && len(list) > 0
		for _, scope := range list {
			isValid = isValid && isScope.MatchString(scope)
		}
	}
	if !isValid {
		panic(fmt.Sprintf("tenantry: %q must be lists of scopes", lists))
	}
	return t.middleware(lists)
}

func (t *Client) middleware(lists [][]string) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			verdict, _ := r.Context().Value(contextKey{}).(*Verdict)
			if verdict == nil || !verdict.covers(lists) { // Tenantry decides for accounts, which also need the role
				if verdict = t.decide(w, r, lists); verdict == nil {
					return
				}
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), contextKey{}, verdict)))
		})
	}
}

func (v *Verdict) covers(lists [][]string) bool {
	own := strings.ReplaceAll(strings.Join(v.Key.Scopes, "|"), "*", "[^ ]*")
	for _, list := range lists {
		if v.Account == nil && regexp.MustCompile(`^(( |^)(`+own+`))+$`).MatchString(strings.Join(list, " ")) {
			return true
		}
	}
	return len(lists) == 0
}

// decide returns the verdict, or nil after it has answered the request.
func (t *Client) decide(w http.ResponseWriter, r *http.Request, lists [][]string) *Verdict {
	keys, bearers, origins := r.Header.Values("X-Api-Key"), r.Header.Values("Authorization"), r.Header.Values("Origin")
	sent := append([]string{}, keys...)
	for _, text := range bearers {
		sent = append(sent, strings.TrimSpace(bearer.ReplaceAllString(text, "$1")))
	}
	if len(keys) > 1 || len(bearers) > 1 || len(sent) > 0 && sent[0] != sent[len(sent)-1] {
		return reject(w, rejection{400, "The request has two credentials; send one"}, "credentials_conflict", 0, nil)
	} else if len(sent) == 0 {
		return reject(w, rejection{401, "A credential is required"}, "", 0, nil)
	} else if !isKey.MatchString(sent[0]) {
		return reject(w, rejection{401, invalid}, "", 0, nil)
	}
	client := map[string]any{"ip": net.ParseIP(strings.Split(t.Address(r), "%")[0])}
	if origin := strings.Join(origins, " "); isOrigin.MatchString(origin) {
		client["origin"] = origin
	} else if len(origins) > 0 { // text that is no origin, or repeated, becomes one that no organization allows
		client["origin"] = "null"
	}
	resource := fmt.Sprintf("%.128s", t.Resource(r))
	check := map[string]any{"key": sent[0], "resource": resource, "client": client}
	if len(lists) > 0 {
		check["scopes"] = lists
	}
	answer, err := t.post(check)
	rejected, organization := rejections[answer.Code], answer.Organization
	isWhole := answer.Key.ID != "" && (organization == nil || organization.ID != "")
	if err == nil && answer.Valid && answer.Code == "valid" && isWhole {
		return &answer.Verdict
	} else if err != nil || answer.Valid || rejected.status == 0 {
		log.Printf("tenantry: credential check failed: code %q, error %v", answer.Code, err)
		return reject(w, rejection{503, "The credential could not be checked"}, "unavailable", 1, nil)
	}
	return reject(w, rejected, answer.Code, answer.RetryAfter, answer.MissingScopes)
}

type answer struct {
	Verdict
	Valid         bool
	Code          string
	MissingScopes []string `json:"missing_scopes"`
	RetryAfter    int      `json:"retry_after"`
}

func (t *Client) post(check any) (answer answer, err error) {
	body, _ := json.Marshal(check)
	request := t.request.Clone(context.Background())
	request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response, err := t.http.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != 200 {
		return answer, fmt.Errorf("the status is %d", response.StatusCode)
	} else if err == nil {
		err = json.Unmarshal(text, &answer)
	}
	return answer, err
}

func reject(w http.ResponseWriter, it rejection, code string, wait int, missing []string) *Verdict {
	content := map[string]any{"code": code, "message": it.message}
	if it.status == 401 {
		content["code"] = "unauthorized"
		w.Header().Set("WWW-Authenticate", "Bearer")
	} else if len(missing) > 0 {
		content["missing_scopes"] = missing
	} else if wait > 0 {
		w.Header().Set("Retry-After", fmt.Sprint(wait))
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(it.status)
	json.NewEncoder(w).Encode(map[string]any{"error": content})
	return nil
}
