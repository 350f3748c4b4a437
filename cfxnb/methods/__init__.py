"""The methods: one file each, readable beside its paper."""
