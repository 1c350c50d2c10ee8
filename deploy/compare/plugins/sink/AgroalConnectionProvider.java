package org.hibernate.agroal.internal;

/** Debezium's JDBC sink only takes the name of this class, for a default that is not used here. */
public final class AgroalConnectionProvider {}
