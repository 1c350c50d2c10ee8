package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func (c *cli) aclCommand() *cobra.Command {
	return c.kafka(noun("acl", "Create, list and delete ACLs: who may do what",
		c.aclCreate(), c.reading(c.aclList()), c.aclDelete()))
}

// aclRow is one ACL, as `acl list --json` shows it and the flags name it.
type aclRow struct {
	Principal  string `json:"principal"`
	Permission string `json:"permission"`
	Operation  string `json:"operation"`
	Resource   string `json:"resource"`
	Name       string `json:"name"`
	Pattern    string `json:"pattern"`
	Host       string `json:"host"`
}

// aclFlags are what an ACL is made of, or what a filter asks for.
type aclFlags struct {
	topic, group, transactionalID string
	cluster, prefixed, deny       bool
	principal, host               string
	operations                    []string
}

func (f *aclFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.principal, "principal", "", "whose, as `TYPE:NAME`, such as User:alice or User:*")
	flags.StringVar(&f.topic, "topic", "", "on topic `NAME`; * is every topic")
	flags.StringVar(&f.group, "group", "", "on consumer group `NAME`")
	flags.StringVar(&f.transactionalID, "transactional-id", "", "on transactional `ID`")
	flags.BoolVar(&f.cluster, "cluster", false, "on the site as a whole")
	flags.BoolVar(&f.prefixed, "prefixed", false, "on every name that begins with NAME")
	flags.StringVar(&f.host, "host", "", "from that `ADDRESS` only")
	flags.StringSliceVar(&f.operations, "operation", nil, "read, write, create, delete, alter, describe, describe_configs, alter_configs, idempotent_write, cluster_action or all")
	flags.BoolVar(&f.deny, "deny", false, "deny instead of allow; a deny wins over every allow")
}

// resource is what the flags name; 1, any, if nothing.
func (f *aclFlags) resource() (kind kmsg.ACLResourceType, name *string, err error) {
	kind = kmsg.ACLResourceTypeAny
	n := 0
	for _, one := range []struct {
		kind kmsg.ACLResourceType
		name string
	}{{kmsg.ACLResourceTypeTopic, f.topic}, {kmsg.ACLResourceTypeGroup, f.group}, {kmsg.ACLResourceTypeTransactionalId, f.transactionalID}} {
		if one.name != "" {
			kind, name = one.kind, &one.name
			n++
		}
	}
	if f.cluster {
		kind, name = kmsg.ACLResourceTypeCluster, kmsg.StringPtr("kafka-cluster")
		n++
	}
	if n > 1 {
		err = usagef("--topic, --group, --transactional-id and --cluster exclude each other")
	}
	return kind, name, err
}

func (f *aclFlags) parsedOperations() (all []kmsg.ACLOperation, err error) {
	for _, text := range f.operations {
		op, err := kmsg.ParseACLOperation(text)
		if err != nil || op <= kmsg.ACLOperationAny {
			return nil, usagef("--operation %q: want read, write, create, delete, alter, describe, describe_configs, alter_configs, idempotent_write, cluster_action or all", text)
		}
		all = append(all, op)
	}
	return all, nil
}

func (c *cli) aclCreate() *cobra.Command {
	var f aclFlags
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Allow or deny operations to a principal",
		Example: `  entrepot acl create --principal User:alice --topic orders. --prefixed --operation read,write
  entrepot acl create --principal User:alice --group orders-app --operation read
  entrepot acl create --principal User:bob --topic orders.secret --operation all --deny`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			req, err := f.creations()
			if err != nil {
				return err
			}
			return c.withKafka(cmd.Context(), func(ctx context.Context, client kmsg.Requestor) error {
				resp, err := req.RequestWith(ctx, client)
				if err != nil {
					return explain("create ACLs", err, "")
				}
				for _, r := range resp.Results {
					if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
						return explain("create an ACL", err, orNothing(r.ErrorMessage))
					}
				}
				fmt.Fprintf(c.out, "created %s\n", plural(len(resp.Results), "ACL"))
				return nil
			})
		},
	}
	f.register(cmd)
	return cmd
}

func (f *aclFlags) creations() (*kmsg.CreateACLsRequest, error) {
	kind, name, err := f.resource()
	if err != nil {
		return nil, err
	}
	ops, err := f.parsedOperations()
	switch {
	case err != nil:
		return nil, err
	case name == nil || len(ops) == 0 || f.principal == "":
		return nil, usagef("an ACL needs --principal, --operation, and one of --topic, --group, --transactional-id and --cluster")
	}
	req := kmsg.NewPtrCreateACLsRequest()
	for _, op := range ops {
		o := kmsg.NewCreateACLsRequestCreation()
		o.Principal, o.Host, o.ResourceType, o.ResourceName, o.Operation = f.principal, f.host, kind, *name, op
		o.ResourcePatternType, o.PermissionType = kmsg.ACLResourcePatternTypeLiteral, kmsg.ACLPermissionTypeAllow
		if o.Host == "" {
			o.Host = "*"
		}
		if f.prefixed {
			o.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
		}
		if f.deny {
			o.PermissionType = kmsg.ACLPermissionTypeDeny
		}
		req.Creations = append(req.Creations, o)
	}
	return req, nil
}

func (c *cli) aclList() *cobra.Command {
	var f aclFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List ACLs, all or those that the flags select",
		Example: "  entrepot acl list\n  entrepot acl list --principal User:alice --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters, err := f.filters()
			if err != nil {
				return err
			}
			return c.withKafka(cmd.Context(), func(ctx context.Context, client kmsg.Requestor) error {
				rows, err := listACLs(ctx, client, filters)
				if err != nil {
					return err
				}
				return c.print(rows, func(w io.Writer) { writeACLs(w, "no ACLs", rows) })
			})
		},
	}
	f.register(cmd)
	return cmd
}

// filters are one for each operation that the flags name, or one for all.
func (f *aclFlags) filters() (all []kmsg.DeleteACLsRequestFilter, err error) {
	kind, name, err := f.resource()
	if err != nil {
		return nil, err
	}
	ops, err := f.parsedOperations()
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		ops = []kmsg.ACLOperation{kmsg.ACLOperationAny}
	}
	for _, op := range ops {
		o := kmsg.NewDeleteACLsRequestFilter()
		o.ResourceType, o.ResourceName, o.Operation = kind, name, op
		o.ResourcePatternType, o.PermissionType = kmsg.ACLResourcePatternTypeAny, kmsg.ACLPermissionTypeAny
		if f.prefixed {
			o.ResourcePatternType = kmsg.ACLResourcePatternTypePrefixed
		}
		if f.deny {
			o.PermissionType = kmsg.ACLPermissionTypeDeny
		}
		if f.principal != "" {
			o.Principal = &f.principal
		}
		if f.host != "" {
			o.Host = &f.host
		}
		all = append(all, o)
	}
	return all, nil
}

func listACLs(ctx context.Context, client kmsg.Requestor, filters []kmsg.DeleteACLsRequestFilter) ([]aclRow, error) {
	rows := []aclRow{}
	for _, f := range filters {
		req := kmsg.NewPtrDescribeACLsRequest()
		req.ResourceType, req.ResourceName, req.ResourcePatternType = f.ResourceType, f.ResourceName, f.ResourcePatternType
		req.Principal, req.Host, req.Operation, req.PermissionType = f.Principal, f.Host, f.Operation, f.PermissionType
		resp, err := req.RequestWith(ctx, client)
		if err != nil {
			return nil, explain("list ACLs", err, "")
		}
		if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
			return nil, explain("list ACLs", err, orNothing(resp.ErrorMessage))
		}
		for _, r := range resp.Resources {
			for _, a := range r.ACLs {
				rows = append(rows, aclRow{
					a.Principal, lower(a.PermissionType), lower(a.Operation), lower(r.ResourceType), r.ResourceName, lower(r.ResourcePatternType), a.Host,
				})
			}
		}
	}
	return rows, nil
}

func lower(s fmt.Stringer) string { return strings.ToLower(s.String()) }

func orNothing(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

func writeACLs(w io.Writer, empty string, rows []aclRow) {
	t := newTable(empty, "PRINCIPAL", "PERMISSION", "OPERATION", "RESOURCE", "NAME", "PATTERN", "HOST")
	for _, r := range rows {
		t.row(r.Principal, r.Permission, r.Operation, r.Resource, r.Name, r.Pattern, r.Host)
	}
	t.write(w)
}

func (c *cli) aclDelete() *cobra.Command {
	var f aclFlags
	var all bool
	cmd := &cobra.Command{
		Use:     "delete",
		Short:   "Delete the ACLs that the flags select",
		Example: "  entrepot acl delete --principal User:alice --topic orders. --prefixed",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filters, err := f.filters()
			if err != nil {
				return err
			}
			if one := filters[0]; !all && one.ResourceName == nil && one.Principal == nil {
				return usagef("this would delete the ACLs of everyone on everything: give --principal, --topic, --group, --transactional-id or --cluster, or --all")
			}
			return c.withKafka(cmd.Context(), func(ctx context.Context, client kmsg.Requestor) error {
				req := kmsg.NewPtrDeleteACLsRequest()
				req.Filters = filters
				resp, err := req.RequestWith(ctx, client)
				if err != nil {
					return explain("delete ACLs", err, "")
				}
				n := 0
				for _, r := range resp.Results {
					if err := kerr.ErrorForCode(r.ErrorCode); err != nil {
						return explain("delete ACLs", err, orNothing(r.ErrorMessage))
					}
					n += len(r.MatchingACLs)
				}
				fmt.Fprintf(c.out, "deleted %s\n", plural(n, "ACL"))
				return nil
			})
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "delete all ACLs that the other flags leave")
	return cmd
}

// withKafka runs f with a client, for no longer than a command that asks and
// prints may take.
func (c *cli) withKafka(ctx context.Context, f func(context.Context, kmsg.Requestor) error) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	client, err := c.kafkaClient(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	return f(ctx, client)
}
