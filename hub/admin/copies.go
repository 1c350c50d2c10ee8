package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

func (s *Server) fetchRate(*http.Request) (any, error) {
	if s.src.Copies == nil {
		return nil, errNoSite
	}
	return FetchRate{s.src.Copies.FetchRate()}, nil
}

func (s *Server) setFetchRate(r *http.Request) (any, error) {
	if s.src.Copies == nil {
		return nil, errNoSite
	}
	var to struct {
		BytesPerSecond *int64 `json:"bytes_per_second"`
	}
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(&to)
	if err == nil && to.BytesPerSecond == nil {
		err = errors.New("there is none")
	}
	if err == nil && *to.BytesPerSecond < 0 {
		err = fmt.Errorf("got %d", *to.BytesPerSecond)
	}
	if err != nil {
		return nil, badRequest(fmt.Sprintf(`the body has to be {"bytes_per_second": N} with N at least 0, which is no bound: %v`, err))
	}
	s.src.Copies.SetFetchRate(*to.BytesPerSecond)
	s.logger.Info("fetch rate set until the next start", "bytes_per_second", *to.BytesPerSecond, "client", r.RemoteAddr)
	return s.fetchRate(r)
}
