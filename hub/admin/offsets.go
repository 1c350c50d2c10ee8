package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// offsetRoutes are GET (how far a job is), PUT (move parts of it) and DELETE
// (let it begin anew).
func (s *Server) offsetRoutes() http.Handler {
	return methods{
		http.MethodGet:    answer(http.MethodGet, s.offsets),
		http.MethodPut:    answer(http.MethodPut, s.setOffsets),
		http.MethodDelete: answer(http.MethodDelete, s.resetOffsets),
	}
}

// steered is the job that a request names.
func (s *Server) steered(r *http.Request) (Jobs, string, error) {
	name := r.PathValue("name")
	if s.src.Jobs == nil {
		return nil, name, fmt.Errorf("job %q: %w: no jobs run on this node", name, ErrNotFound)
	}
	return s.src.Jobs, name, nil
}

func (s *Server) offsets(r *http.Request) (any, error) {
	jobs, name, err := s.steered(r)
	if err != nil {
		return nil, err
	}
	all, err := jobs.Offsets(r.Context(), name)
	if err != nil {
		return nil, fmt.Errorf("offsets of job %q: %w", name, err)
	}
	return list(all), nil
}

func (s *Server) setOffsets(r *http.Request) (any, error) {
	jobs, name, err := s.steered(r)
	if err != nil {
		return nil, err
	}
	var to []Offset
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&to); err != nil {
		return nil, badRequest(fmt.Sprintf("the body has to be a list of offsets as GET shows them: %v", err))
	}
	if err := jobs.SetOffsets(r.Context(), name, to); err != nil {
		return nil, fmt.Errorf("set offsets of job %q: %w", name, err)
	}
	s.logger.Info("offsets set", "job", name, "count", len(to), "client", r.RemoteAddr)
	return s.offsets(r)
}

func (s *Server) resetOffsets(r *http.Request) (any, error) {
	jobs, name, err := s.steered(r)
	if err != nil {
		return nil, err
	}
	if err := jobs.ResetOffsets(r.Context(), name); err != nil {
		return nil, fmt.Errorf("reset offsets of job %q: %w", name, err)
	}
	s.logger.Info("offsets reset", "job", name, "client", r.RemoteAddr)
	return s.offsets(r)
}

func (s *Server) rewind(r *http.Request) (any, error) {
	jobs, name, err := s.steered(r)
	if err != nil {
		return nil, err
	}
	var to RewindTo
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&to); err != nil || to.Time.IsZero() {
		return nil, badRequest(`the body has to be {"time": "2026-05-17T10:00:00Z", "dry_run": false}`)
	}
	done, err := jobs.Rewind(r.Context(), name, to)
	if err != nil {
		return nil, fmt.Errorf("rewind job %q: %w", name, err)
	}
	if !to.DryRun {
		s.logger.Info("job rewound", "job", name, "time", to.Time, "client", r.RemoteAddr)
	}
	done.Parts = list(done.Parts)
	return done, nil
}

// replayTime bounds one request for a replay; who wants all asks again while
// something is left.
const replayTime = 10 * time.Second

func (s *Server) replay(r *http.Request) (any, error) {
	jobs, name, err := s.steered(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.Context(), replayTime)
	defer cancel()
	done, err := jobs.Replay(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("replay the dead letters of job %q: %w", name, err)
	}
	s.logger.Info("dead letters replayed", "job", name, "count", done.Read, "client", r.RemoteAddr)
	return done, nil
}
