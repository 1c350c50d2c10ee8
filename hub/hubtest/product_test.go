package hubtest

// The product is run as a program, which the go command does not see: imported, its
// changes make an old result count no more.
import (
	_ "github.com/entrepot-hub/entrepot/hub"
	_ "github.com/entrepot-hub/entrepot/hub/ctl"
)
